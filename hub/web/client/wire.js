// The subprotocol vinhub.v1 (JSON): messages to and from the hub, and the URL of a handshake.

export const PROTOCOL = 'vinhub.v1';
export const PING = '{"type":"PING"}';

const CHUNK = 0x8000; // every browser takes this many arguments in one call
const SURROGATE = /\p{Surrogate}/u;

function toBase64(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += CHUNK) text += String.fromCharCode(...bytes.subarray(at, at + CHUNK));
  return btoa(text);
}

function fromBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
  return bytes;
}

/** Half of a surrogate pair has no UTF-8: it becomes U+FFFD, as in WebSocket.send. */
function wellFormed(text) {
  return SURROGATE.test(text) ? new TextDecoder().decode(new TextEncoder().encode(text)) : text;
}

/** A string, or a copy as Uint8Array: the caller may change its buffer later. */
export function payloadOf(data) {
  if (typeof data === 'string') return wellFormed(data);
  if (data instanceof ArrayBuffer) return new Uint8Array(data.slice(0));
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
  throw new TypeError('send: expected a string, an ArrayBuffer or a view of one');
}

/** more: session, ttl (ms); undefined members are left out. */
export function encodeSend(id, payload, more = {}) {
  const text = typeof payload === 'string';
  return JSON.stringify({
    type: 'SEND', id, ...more, encoding: text ? 'text' : 'base64', payload: text ? payload : toBase64(payload),
  });
}

export const encodeSubscribe = (id, urls) => JSON.stringify({ type: 'SUBSCRIBE', id, urls });
export const encodeUnsubscribe = (id, sessions) => JSON.stringify({ type: 'UNSUBSCRIBE', id, sessions });

export const encodeRefresh = (id, token) => JSON.stringify({ type: 'REFRESH', id, token });

/** When a JSON Web Token was issued and when it expires, in Unix ms; null: can't be read. The token is not verified. */
export function timesOf(token) {
  const ms = (value) => (Number.isFinite(value) ? value * 1000 : null);
  try {
    const { iat, exp } = JSON.parse(atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/')));
    return { issued: ms(iat), ends: ms(exp) };
  } catch {
    return { issued: null, ends: null };
  }
}

/** A message of the hub; null: the text is not one. */
export function decode(text) {
  let message;
  try { message = JSON.parse(text); } catch { return null; }
  return typeof message?.type === 'string' && message.payload !== undefined ? message : null;
}

export const dataOf = ({ encoding, payload }) => (encoding === 'base64' ? fromBase64(payload) : payload);

/** Is position a behind position b? */
export const isAfter = (a, b) => a.epoch > b.epoch || (a.epoch === b.epoch && a.offset > b.offset);

/** Can the text be a subprotocol (RFC 6455, 4.1)? All characters of JSON Web Tokens can. */
export const isToken = (text) => /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(text);

/** The name of a session in a SUBSCRIBE: path and query. The host of an absolute URL is ignored, since the connection has one. */
export function subscribeUrl(url) {
  const [, text] = /^(?:[a-z]+:\/\/[^/]*)?(\/[^#]*)/i.exec(url) ?? [];
  if (!text) throw new TypeError(`url: expected a path such as /admin/VIN1?remoteWs, got ${url}`);
  return text;
}

/**
 * The absolute ws: or wss: URL with these parameters added. It is joined as text: the service is a query item without `=`, and
 * URLSearchParams would add one.
 */
export function handshakeUrl(url, parameters) {
  if (!url) throw new TypeError('url: expected a URL or a path such as /admin/VIN1?remoteWs, got none');
  const absolute = new URL(url, globalThis.location?.href);
  absolute.protocol = absolute.protocol.replace(/^http/, 'ws');
  absolute.hash = '';
  const items = Object.entries(parameters).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  if (items.length === 0) return absolute.href;
  return absolute.href + (absolute.href.includes('?') ? '&' : '?') + items.join('&');
}
