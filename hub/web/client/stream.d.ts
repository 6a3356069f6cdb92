/** Event streams instead of a WebSocket: `new VinhubClient(url, { fallback: EventStreamSocket })`. */
export const EventStreamSocket: (new (url: string, protocols?: string | string[]) => WebSocket) & { readonly readingOnly: true };
