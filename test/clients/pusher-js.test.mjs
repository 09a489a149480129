// pusher-js through every kind of channel.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { Server, Clients, authorizer, event, subscribed } from './server.mjs';

let server, library, auth, clients;
before(async () => {
  server = await Server.start();
  library = server.library();
  auth = await authorizer(library);
  clients = new Clients(server, auth);
});
after(async () => { clients.close(); auth.close(); assert.equal(await server.stop(), 0); });

const kinds = ['', 'private-', 'presence-', 'private-encrypted-', 'cache-', 'private-cache-', 'presence-cache-', 'private-encrypted-cache-'];

for (const kind of kinds) {
  test(`${kind || 'public '}channel: subscribe, receive`, async () => {
    const channel = clients.make('1').subscribe(`${kind}room`);
    const missed = kind.includes('cache-') ? event(channel, 'pusher:cache_miss') : null;
    await event(channel, 'pusher:subscription_succeeded');
    await missed;
    const got = event(channel, 'App\\Events\\Sent');
    await library.trigger(`${kind}room`, 'App\\Events\\Sent', { text: 'héllo "😀"', list: [], object: {} });
    assert.deepEqual(await got, { text: 'héllo "😀"', list: [], object: {} });
    if (!kind.includes('cache-')) return;
    const late = clients.make('2').subscribe(`${kind}room`);
    assert.deepEqual(await event(late, 'App\\Events\\Sent'), { text: 'héllo "😀"', list: [], object: {} });
  });
}

test('client events reach the others, with user_id on presence channels', async () => {
  for (const name of ['private-whisper', 'presence-whisper']) {
    const [a, b] = [clients.make('a').subscribe(name), clients.make('b').subscribe(name)];
    await Promise.all([subscribed(a), subscribed(b)]);
    a.bind('client-typing', () => assert.fail('the sender got its own event'));
    const got = new Promise((resolve) => b.bind('client-typing', (data, meta) => resolve([data, meta?.user_id])));
    a.trigger('client-typing', { empty: {}, f: 1.5, s: 'x' });
    assert.deepEqual(await got, [{ empty: {}, f: 1.5, s: 'x' }, name.startsWith('presence') ? 'a' : undefined]);
  }
});

test('presence: one user on two connections is one member', async () => {
  const one = clients.make('ann');
  const channel = one.subscribe('presence-team');
  await subscribed(channel);
  assert.equal(channel.members.me.id, 'ann');
  const added = event(channel, 'pusher:member_added');
  const [first, second] = [clients.make('bob'), clients.make('bob')];
  await subscribed(first.subscribe('presence-team'));
  assert.equal((await added).id, 'bob');
  const seen = [];
  channel.bind('pusher:member_added', (m) => seen.push(`+${m.id}`));
  channel.bind('pusher:member_removed', (m) => seen.push(`-${m.id}`));
  const again = second.subscribe('presence-team');
  await subscribed(again);
  assert.equal(again.members.count, 2);
  assert.deepEqual(again.members.get('ann').info, { name: 'User ann' });
  first.disconnect();
  await subscribed(clients.make('eve').subscribe('presence-team'));
  const removed = event(channel, 'pusher:member_removed');
  second.disconnect();
  assert.equal((await removed).id, 'bob');
  assert.deepEqual(seen, ['+eve', '-bob']);
  assert.equal(channel.members.count, 2);
});

test('a signature that is wrong fires pusher:subscription_error', async () => {
  const other = await authorizer(server.library({ secret: 'wrong' }));
  const client = new Clients(server, other);
  const failed = await event(client.make('1').subscribe('private-x'), 'pusher:subscription_error');
  assert.equal(failed.status, 401);
  assert.equal(failed.type, 'AuthError');
  client.close();
  other.close();
});

test('an unknown key is refused for good', async () => {
  const client = clients.make('1', 'no-such-key');
  const error = event(client.connection, 'error');
  await event(client.connection, 'disconnected').catch(() => event(client.connection, 'failed'));
  const e = await error;
  assert.equal((e.data ?? e.error.data).code, 4001);
  assert.notEqual(client.connection.state, 'connecting');
});

test('a wsPath may end in a slash', async () => {
  for (const [serverPath, wsPath] of [['/ws', '/ws/'], ['/ws', '/ws'], ['', '/'], ['/', '/']]) {
    const own = await Server.start({ REVERB_SERVER_PATH: serverPath });
    const some = new Clients(own);
    await subscribed(some.make(null, 'app-key', { wsPath }).subscribe('room'));
    some.close();
    await own.stop();
  }
});

test('when the server comes back, so do the clients and their subscriptions', async () => {
  const own = await Server.start();
  const lib = own.library();
  const endpoint = await authorizer(lib);
  const some = new Clients(own, endpoint);
  const channels = ['room', 'private-room', 'presence-room'].map((name, i) => some.make(`u${i}`).subscribe(name));
  await Promise.all(channels.map(subscribed));
  const back = channels.map((c) => event(c, 'pusher:subscription_succeeded', 20_000));
  assert.equal(await own.stop(), 0);
  await own.run();
  await Promise.all(back);
  const got = channels.map((c) => event(c, 'again'));
  await lib.trigger(channels.map((c) => c.name), 'again', 1);
  assert.deepEqual(await Promise.all(got), [1, 1, 1]);
  some.close();
  endpoint.close();
  await own.stop();
});
