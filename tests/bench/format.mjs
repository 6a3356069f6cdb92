// Numbers as tables show them.
export const us = (ns) => (Number.isFinite(ns) ? (ns / 1000).toFixed(ns < 10_000 ? 2 : 1) : '-')
export const times = (value) => (Number.isFinite(value) ? value.toFixed(2) : '-')
export const percent = (value) => (Number.isFinite(value) ? `${(value * 100).toFixed(1)} %` : '-')
export const count = (value) => (Number.isFinite(value) ? Math.round(value).toLocaleString('en') : '-')
export const kib = (bytes) => (Number.isFinite(bytes) ? (bytes / 1024).toFixed(2) : '-')
export const ms = (ns) => (Number.isFinite(ns) ? (ns / 1e6).toFixed(0) : '-')
