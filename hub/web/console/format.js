// Numbers and times as people read them.

const whole = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export const count = (n) => (n === undefined || n === null ? '–' : n < 100000 ? whole.format(n) : short.format(n));
export const exact = (n) => (n === undefined || n === null ? '–' : whole.format(n));
export const rate = (n) => (n < 10 && n > 0 ? n.toFixed(1) : count(Math.round(n)));

export function bytes(n) {
  if (n === undefined || n === null) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
  return `${unit && n < 100 ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
}

export function duration(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

/** The time since ms. now: the time of the cluster if it is known, since the clock of this browser may be wrong. */
export const ago = (ms, now = Date.now()) => (ms ? duration(now - ms) : '–');

export const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false }) +
  '.' + String(ms % 1000).padStart(3, '0');
