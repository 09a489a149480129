// The server library for Node.
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

const json = async (response) => { assert.equal(response.status, 200); return response.json(); };

test('trigger with info, batch, to a user', async () => {
  const [a, p] = [clients.make('1').subscribe('info'), clients.make('1').subscribe('presence-info')];
  await Promise.all([subscribed(a), subscribed(p)]);
  const got = event(a, 'e');
  assert.deepEqual(await json(await library.trigger(['info', 'presence-info'], 'e', { n: 1 }, { info: 'subscription_count,user_count' })),
    { channels: { info: { subscription_count: 1 }, 'presence-info': { user_count: 1 } } });
  assert.deepEqual(await got, { n: 1 });
  const both = [event(a, 'b1'), event(p, 'b2')];
  assert.deepEqual(await json(await library.triggerBatch([{ channel: 'info', name: 'b1', data: 'x' }, { channel: 'presence-info', name: 'b2', data: { y: 2 } }])), { batch: [] });
  assert.deepEqual(await Promise.all(both), ['x', { y: 2 }]);
  await json(await library.sendToUser('1', 'e', {}));
});

test('queries', async () => {
  await subscribed(clients.make('7').subscribe('presence-query'));
  assert.deepEqual(await json(await library.get({ path: '/channels', params: { filter_by_prefix: 'presence-q', info: 'user_count' } })), { channels: { 'presence-query': { user_count: 1 } } });
  assert.deepEqual(await json(await library.get({ path: '/channels/presence-query', params: { info: 'user_count' } })), { occupied: true, user_count: 1 });
  assert.deepEqual(await json(await library.get({ path: '/channels/presence-query/users' })), { users: [{ id: '7' }] });
  assert.ok((await json(await library.get({ path: '/connections' }))).connections >= 1);
});

test('terminateUserConnections closes them for good', async () => {
  const client = clients.make('bad');
  await subscribed(client.subscribe('presence-terminate'));
  const gone = event(client.connection, 'disconnected');
  await library.terminateUserConnections('bad');
  await gone;
});

test('a wrong secret is explained', async () => {
  await assert.rejects(server.library({ secret: 'wrong' }).trigger('c', 'e', {}), (e) => {
    assert.equal(e.status, 401);
    assert.match(e.body, /REVERB_APP_SECRET/);
    return true;
  });
});

test('many events on few connections', async () => {
  const channel = clients.make('1').subscribe('many');
  await subscribed(channel);
  const got = [];
  const all = new Promise((resolve) => channel.bind('n', (n) => { got.push(n); if (got.length === 200) resolve(); }));
  for (let i = 0; i < 200; i++) await library.trigger('many', 'n', i);
  await all;
  assert.deepEqual(got, Array.from({ length: 200 }, (_, i) => i));
});
