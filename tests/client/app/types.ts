// What the types let a page write, and what they do not. Checked by tsc, never run.
import { VinhubClient, SendError, type Gap, type Subscription, type SubscriptionGroup } from 'vinhub-client';
import { useVinhub as useHook } from 'vinhub-client/react';
import { sharedClient } from 'vinhub-client/shared';
import { EventStreamSocket } from 'vinhub-client/stream';
import mixin, { vinhubMixin } from 'vinhub-client/vue';
import { useVinhub } from 'vinhub-client/vue3';
import { ref } from 'vue';

const client = new VinhubClient(['/admin?subscribe'], { token: async ({ refused }) => (refused ? 'new' : null) });
new VinhubClient('/a/b', { fallback: EventStreamSocket, fallbackFor: 1000 }).on('status', ({ readsOnly }) => readsOnly === true);
client.connect().on('presence', ({ users, more }) => users.map(({ user, clients }) => user.length + clients + more));
client.on('message', (data: string | Uint8Array, { epoch }) => [data, epoch]);

const one: Subscription = client.subscribe('/admin/V1?remoteWs', { rate: 1, replay: 1, resume: client.position });
const position: string | null = one.position;
one.on('message', (data, { url, session, offset }) => `${data} ${url} ${session} ${offset.toFixed()}`);
one.on('closed', ({ code, reason, url }) => [code === 'full', reason, url]);
one.on('gap', (gap: Gap) => gap.to);
one.on('status', ({ state, upstream }) => state === 'open' && upstream === 'connected');
one.send(new Uint8Array(3), { ttl: 500 }).catch((error: SendError) => error.sent);
one.unsubscribe();

const fleet: SubscriptionGroup = client.subscribe(['/admin/V1?remoteWs'], { rate: 1, resume: { '/admin/V1?remoteWs': '1.2' } });
for (const { url } of fleet) fleet.send('x', { to: url, ttl: 1 });
fleet.unsubscribe(Object.keys(fleet.position));

const tabs = await sharedClient('/admin?subscribe', { token: () => 'x', fallback: EventStreamSocket });
useVinhub('/admin/V1?remoteWs', { client: tabs });
const watched = useVinhub(ref('/admin/V1?remoteWs'), { client, rate: 1, onGap: ({ to }) => to });
const state: string = watched.status.value.state;
useVinhub(() => null);
const { data, send } = useHook('/admin/V1?remoteWs', { token: 'x', onClosed: ({ code }) => code });
send('x', { ttl: 9 }).then(() => data?.length);
export default { mixins: [mixin, vinhubMixin({ mode: 'v1', url: '/admin/V1?remoteWs' })], position, state };

// @ts-expect-error: rate is a number
client.subscribe('/a/b', { rate: 'fast' });
// @ts-expect-error: there is no such event
one.on('error', () => {});
// @ts-expect-error: a group is told for which url
fleet.send('x');
// @ts-expect-error: the data of a composable is a ref
watched.data.length;
// @ts-expect-error: messages are text or bytes
one.send({ command: 10 });
