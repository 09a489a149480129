// The server library for Node.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import Pusher from 'pusher';
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
    { channels: { info: { subscription_count: 1 }, 'presence-info': { subscription_count: 1, user_count: 1 } } });
  assert.deepEqual(await got, { n: 1 });
  const both = [event(a, 'b1'), event(p, 'b2')];
  assert.deepEqual(await json(await library.triggerBatch([{ channel: 'info', name: 'b1', data: 'x' }, { channel: 'presence-info', name: 'b2', data: { y: 2 } }])), {});
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

test('users whose IDs are not plain are terminated, whoever escapes them', async () => {
  for (const user of ['u 1', 'e:2', 'a@b.example', 'auth0|5', 'a;b,c=d', "it's", '(x)*!~', 'a+b&c', 'ü😀', '{"x"}', '<b>', '[0]', '^`']) {
    const channel = `presence-odd`;
    for (const id of [user, encodeURIComponent(user)]) {
      const client = clients.make(user);
      await subscribed(client.subscribe(channel));
      const gone = event(client.connection, 'disconnected');
      assert.deepEqual(await json(await library.terminateUserConnections(id)), {}, id);
      await gone;
    }
  }
});

// Every method of the library, and what it is to give.
const webhook = JSON.stringify({ time_ms: 1, events: [{ name: 'channel_occupied', channel: 'x' }] });
const methods = {
  trigger: async () => {
    assert.deepEqual(await json(await library.trigger('nobody', 'e', { n: 1 })), {});
    assert.deepEqual(await json(await library.trigger(['nobody', 'presence-nobody'], 'e', 'x', { info: 'user_count,subscription_count', socket_id: '1.2' })),
      { channels: { nobody: { subscription_count: 0 }, 'presence-nobody': { user_count: 0, subscription_count: 0 } } });
    assert.deepEqual(await json(await library.trigger('private-encrypted-nobody', 'e', { n: 1 })), {});
    await assert.rejects(async () => library.trigger(['private-encrypted-nobody', 'nobody'], 'e', 1)); // the library itself
  },
  triggerBatch: async () => {
    const events = [{ channel: 'nobody', name: 'e', data: 'x' }, { channel: 'private-encrypted-nobody', name: 'e', data: { n: 1 }, socket_id: '1.2' }];
    assert.deepEqual(await json(await library.triggerBatch(events)), {});
    assert.deepEqual(await json(await library.triggerBatch([...events, { channel: 'presence-nobody', name: 'e', data: 'x', info: 'user_count,subscription_count' }])),
      { batch: [{}, {}, { user_count: 0, subscription_count: 0 }] });
  },
  sendToUser: async () => assert.deepEqual(await json(await library.sendToUser('nobody@all', 'e', { n: 1 })), {}),
  terminateUserConnections: async () => assert.deepEqual(await json(await library.terminateUserConnections('nobody')), {}),
  get: async () => {
    const [a, p] = [clients.make('7').subscribe('venue@id=1;date=2,3'), clients.make('7').subscribe('presence-venue')];
    await Promise.all([subscribed(a), subscribed(p)]);
    const list = async (params) => (await json(await library.get({ path: '/channels', params }))).channels;
    const all = await list();
    assert.deepEqual([all['venue@id=1;date=2,3'], all['presence-venue']], [{}, {}]);
    assert.deepEqual(await list({ filter_by_prefix: 'venue@id=1;' }), { 'venue@id=1;date=2,3': {} });
    assert.deepEqual(await list({ filter_by_prefix: 'venue', x: '@=,;{}|"ü' }), { 'venue@id=1;date=2,3': {} });
    assert.deepEqual(await list({ filter_by_prefix: 'presence-venue', info: ['user_count', 'subscription_count'] }), { 'presence-venue': { user_count: 1, subscription_count: 1 } });
    assert.deepEqual(await list({ filter_by_prefix: 'zz' }), {});
    const channel = async (name, info) => json(await library.get({ path: `/channels/${name}`, params: info ? { info } : undefined }));
    assert.deepEqual(await channel('venue@id=1;date=2,3'), { occupied: true });
    assert.deepEqual(await channel('presence-venue', 'user_count,subscription_count'), { occupied: true, user_count: 1, subscription_count: 1 });
    assert.deepEqual(await channel('nobody', 'subscription_count'), { occupied: false, subscription_count: 0 });
    assert.deepEqual(await json(await library.get({ path: '/channels/presence-venue/users' })), { users: [{ id: '7' }] });
    assert.deepEqual(await json(await library.get({ path: '/channels/presence-nobody/users' })), { users: [] });
    for (const name of ['nobody', 'venue@id=1;date=2,3', 'private-x']) {
      await assert.rejects(library.get({ path: `/channels/${name}/users` }), (e) => e.status === 400 && /presence/.test(e.body));
    }
  },
  post: async () => assert.deepEqual(await json(await library.post({ path: '/events', params: { x: ';' }, body: { name: 'e', channel: 'nobody', data: 'x' } })), {}),
  createSignedQueryString: async () => {
    const path = '/apps/app-id/channels';
    const query = library.createSignedQueryString({ method: 'GET', path, params: { filter_by_prefix: 'zz', info: 'user_count' } });
    assert.deepEqual(await json(await fetch(`http://127.0.0.1:${server.port}${path}?${query}`)), { channels: {} });
  },
  authorizeChannel: () => assert.match(library.authorizeChannel('1.2', 'private-x').auth, /^app-key:[0-9a-f]{64}$/),
  authenticate: () => assert.equal(library.authenticate('1.2', 'presence-x', { user_id: '1' }).channel_data, '{"user_id":"1"}'),
  authenticateUser: () => assert.match(library.authenticateUser('1.2', { id: '1' }).auth, /^app-key:[0-9a-f]{64}$/),
  webhook: () => {
    const hook = library.webhook({ headers: { 'x-pusher-key': 'app-key', 'x-pusher-signature': library.config.token.sign(webhook), 'content-type': 'application/json' }, rawBody: webhook });
    assert.ok(hook.isValid());
    assert.equal(hook.getEvents()[0].channel, 'x');
  },
  channelSharedSecret: () => assert.equal(library.channelSharedSecret('private-encrypted-x').length, 32),
};
test('every method', async (t) => {
  assert.deepEqual(Object.keys(methods).sort(), Object.keys(Pusher.prototype).sort());
  for (const [name, run] of Object.entries(methods)) await t.test(name, run);
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
