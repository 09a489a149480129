// Laravel Echo, as a Laravel page uses it.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import Echo from 'laravel-echo';
import { Server, Clients, authorizer, event } from './server.mjs';

let server, library, auth, clients;
before(async () => {
  server = await Server.start();
  library = server.library();
  auth = await authorizer(library);
  clients = new Clients(server, auth);
});
after(async () => { clients.close(); auth.close(); assert.equal(await server.stop(), 0); });

const echo = (user) => new Echo({ broadcaster: 'reverb', key: 'app-key', client: clients.make(user) });
const ready = (channel) => new Promise((resolve) => channel.subscribed(resolve));

test('listen on public, private and encrypted channels', async () => {
  const e = echo('1');
  const channels = { 'orders': e.channel('orders'), 'private-orders': e.private('orders'), 'private-encrypted-orders': e.encryptedPrivate('orders') };
  await Promise.all(Object.values(channels).map(ready));
  for (const [name, channel] of Object.entries(channels)) {
    const shipped = new Promise((resolve) => channel.listen('OrderShipped', resolve));
    const named = new Promise((resolve) => channel.listen('.order.shipped', resolve));
    await library.trigger(name, 'App\\Events\\OrderShipped', { id: 1 });
    await library.trigger(name, 'order.shipped', { id: 2 });
    assert.deepEqual([await shipped, await named], [{ id: 1 }, { id: 2 }]);
  }
});

test('whisper', async () => {
  const [a, b] = [echo('1').private('chat'), echo('2').private('chat')];
  await Promise.all([ready(a), ready(b)]);
  const got = new Promise((resolve) => b.listenForWhisper('typing', resolve));
  a.whisper('typing', { name: 'Ann' });
  assert.deepEqual(await got, { name: 'Ann' });
});

test('join: here, joining, leaving', async () => {
  const a = echo('ann').join('room');
  assert.deepEqual(await new Promise((resolve) => a.here(resolve)), [{ name: 'User ann' }]);
  const joining = new Promise((resolve) => a.joining(resolve));
  const second = echo('bob');
  const here = await new Promise((resolve) => second.join('room').here(resolve));
  assert.deepEqual(here, [{ name: 'User ann' }, { name: 'User bob' }]);
  assert.deepEqual(await joining, { name: 'User bob' });
  const leaving = new Promise((resolve) => a.leaving(resolve));
  second.leave('room');
  assert.deepEqual(await leaving, { name: 'User bob' });
});

test('error fires when the back end refuses, and when the server does', async () => {
  assert.equal((await new Promise((resolve) => echo('1').private('x-refused').error(resolve))).status, 403);
  const wrong = await authorizer(server.library({ secret: 'wrong' }));
  const own = new Clients(server, wrong);
  const e = new Echo({ broadcaster: 'reverb', key: 'app-key', client: own.make('1') });
  assert.equal((await new Promise((resolve) => e.private('x').error(resolve))).status, 401);
  own.close();
  wrong.close();
});

test('toOthers: the sender does not get its own event', async () => {
  const [a, b] = [echo('1'), echo('2')];
  const [ca, cb] = [a.channel('toothers'), b.channel('toothers')];
  await Promise.all([ready(ca), ready(cb)]);
  const seen = [];
  ca.listen('.e', (d) => seen.push(d));
  const got = new Promise((resolve) => cb.listen('.e', resolve));
  await library.trigger('toothers', 'e', 'first', { socket_id: a.socketId() });
  assert.equal(await got, 'first');
  const mine = event(a.connector.pusher.channel('toothers'), 'e');
  await library.trigger('toothers', 'e', 'second');
  await mine;
  assert.deepEqual(seen, ['second']);
});
