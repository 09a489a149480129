// Users: sign-in, events for a user, watchlists, presence of signed-in users, as pusher-js and
// Laravel Echo know them.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import Echo from 'laravel-echo';
import { Server, Clients, authorizer, event, subscribed } from './server.mjs';

let server, library, auth, clients;
before(async () => {
  server = await Server.start({ REVERB_APP_DISCONNECT_GRACE_MS: '700' });
  library = server.library();
  auth = await authorizer(library);
  clients = new Clients(server, auth);
});
after(async () => { clients.close(); auth.close(); assert.equal(await server.stop(), 0); });

// laravel signs as Broadcast::resolveAuthenticatedUserUsing does: PHP writes the ID of a user as
// the number that it is.
function laravel(socketId, userData, secret = 'app-secret') {
  const user_data = JSON.stringify(userData);
  return { auth: `app-key:${createHmac('sha256', secret).update(`${socketId}::user::${user_data}`).digest('hex')}`, user_data };
}

const authenticate = (userData, sign = laravel) => ({
  userAuthentication: { customHandler: ({ socketId }, callback) => callback(null, sign(socketId, userData)) },
});

// user makes a client that is signed in.
async function user(userData, sign) {
  const client = clients.make(null, 'app-key', authenticate(userData, sign));
  client.signin();
  await event(client.connection, 'connected');
  await client.user.signinDonePromise;
  return client;
}

test('a number as the ID, sendToUser on two tabs, terminate', async () => {
  const tabs = [await user({ id: 1, user_info: { name: 'Ann' } }), await user({ id: '1' }, (s, d) => library.authenticateUser(s, d))];
  for (const tab of tabs) assert.equal(tab.user.user_data.id, '1');
  const stranger = await user({ id: 11 });
  const nobody = clients.make(null);
  await event(nobody.connection, 'connected');
  const seen = [];
  for (const [i, c] of [...tabs, stranger].entries()) c.user.bind('greet', (d) => seen.push([i, d]));
  nobody.bind_global((name) => { if (name === 'greet') seen.push(['nobody']); });
  const got = tabs.map((tab) => event(tab.user, 'last'));
  assert.equal((await library.sendToUser('1', 'greet', { text: 'hello' })).status, 200);
  await library.sendToUser('1', 'last', {});
  await Promise.all(got);
  const own = event(stranger.user, 'last');
  await library.sendToUser('11', 'last', {});
  await own;
  assert.deepEqual(seen.sort(), [[0, { text: 'hello' }], [1, { text: 'hello' }]]);
  const gone = tabs.map((tab) => event(tab.connection, 'disconnected'));
  await library.terminateUserConnections('1');
  await Promise.all(gone);
  assert.equal(stranger.connection.state, 'connected');
});

test('an event comes to a user without a subscription of the client, and not to the sender', async () => {
  const tabs = [await user({ id: 'sender' }), await user({ id: 'sender' })];
  await Promise.all(tabs.map((tab) => subscribed(tab.user.serverToUserChannel)));
  tabs[0].user.bind('e', (d) => assert.fail(`the sender got ${d}`));
  const [got, last] = [event(tabs[1].user, 'e'), event(tabs[0].user, 'last')];
  const channel = '#server-to-user-sender';
  await library.post({ path: '/events', body: { name: 'e', data: '1', channel, socket_id: tabs[0].connection.socket_id } });
  await library.sendToUser('sender', 'last', 1);
  assert.equal(await got, 1);
  await last;
});

test('watchlist: online, offline, and a page change that is silent', async () => {
  const watcher = clients.make(null, 'app-key', authenticate({ id: 'w', watchlist: ['x', 2] }));
  const seen = [];
  for (const name of ['online', 'offline']) watcher.user.watchlist.bind(name, (e) => seen.push([e.name, e.user_ids]));
  watcher.signin();
  assert.deepEqual((await event(watcher.user.watchlist, 'offline')).user_ids, ['x', '2']);
  const came = event(watcher.user.watchlist, 'online');
  const x = await user({ id: 'x' });
  await came;
  x.disconnect();
  const again = await user({ id: 'x' }); // within the grace
  const two = event(watcher.user.watchlist, 'online');
  const second = await user({ id: 2 });
  await two;
  const gone = event(watcher.user.watchlist, 'offline');
  again.disconnect();
  await gone;
  assert.deepEqual(seen, [['offline', ['x', '2']], ['online', ['x']], ['online', ['2']], ['offline', ['x']]]);
  second.disconnect();
});

test('presence channels take the signed-in user', async () => {
  const ann = await user({ id: 7, user_info: { name: 'Ann' } });
  const client = clients.make(null, 'app-key', {
    ...authenticate({ id: 7, user_info: { name: 'Ann' } }),
    channelAuthorization: { customHandler: ({ channelName, socketId }, callback) => callback(null, laravelChannel(socketId, channelName)) },
  });
  client.signin();
  const channel = client.subscribe('presence-signed');
  await subscribed(channel);
  assert.deepEqual([channel.members.me, channel.members.count], [{ id: '7', info: { name: 'Ann' } }, 1]);
  const named = clients.make('bob'); // channel_data wins
  const both = named.subscribe('presence-signed');
  await subscribed(both);
  assert.deepEqual([both.members.count, both.members.get('7').info], [2, { name: 'Ann' }]);
  ann.disconnect();
});

// laravelChannel signs a subscription without channel_data.
function laravelChannel(socketId, channel) {
  return { auth: `app-key:${createHmac('sha256', 'app-secret').update(`${socketId}:${channel}`).digest('hex')}` };
}

test('a sign-in that is refused leaves the connection as it was', async () => {
  const client = clients.make(null, 'app-key', authenticate({ id: 'x' }, (s, d) => laravel(s, d, 'wrong')));
  client.signin();
  const error = await event(client.connection, 'error');
  assert.match((error.data ?? error.error.data).message, /^Sign-in refused: the signature was made with another secret/);
  await subscribed(client.subscribe('room'));
  assert.equal(client.connection.state, 'connected');
});

test('Laravel Echo signs in', async () => {
  const echo = new Echo({ broadcaster: 'reverb', key: 'app-key', client: clients.make('echo', 'app-key', authenticate({ id: 9 })) });
  echo.connector.signin();
  const { pusher } = echo.connector;
  await event(pusher.connection, 'connected');
  await pusher.user.signinDonePromise;
  const got = event(pusher.user, 'notice');
  await library.sendToUser('9', 'notice', { n: 1 });
  assert.deepEqual(await got, { n: 1 });
  await new Promise((resolve) => echo.private('orders').subscribed(resolve));
  const cached = echo.join('cache-room');
  await new Promise((resolve) => cached.here(resolve));
});

test('channels of users are listed only if they are asked for', async () => {
  await user({ id: 'listed' });
  const list = async (params) => { // the library signs the prefix, and does not escape it
    const query = library.createSignedQueryString({ method: 'GET', path: '/apps/app-id/channels', params });
    const answer = await fetch(`http://127.0.0.1:${server.port}/apps/app-id/channels?${query.replace('#', '%23')}`);
    return Object.keys((await answer.json()).channels);
  };
  assert.deepEqual((await list({})).filter((name) => name.startsWith('#')), []);
  assert.ok((await list({ filter_by_prefix: '#server-to-user-l' })).includes('#server-to-user-listed'));
});

test('a watchlist across two nodes, one of which is killed', async () => {
  const { port } = await Server.start().then(async (s) => { await s.stop(); return s; }); // a free one
  const redis = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'], { stdio: 'ignore' });
  const nodes = [];
  try {
    for (let i = 0; i < 2; i++) {
      nodes.push(await Server.start({ REVERB_SCALING_ENABLED: 'true', REDIS_HOST: '127.0.0.1', REDIS_PORT: String(port), REVERB_APP_DISCONNECT_GRACE_MS: '700' }));
    }
    const [here, there] = nodes.map((node) => new Clients(node, auth));
    const watcher = here.make(null, 'app-key', authenticate({ id: 'w', watchlist: ['x', 'y'] }));
    const seen = [];
    for (const name of ['online', 'offline']) watcher.user.watchlist.bind(name, (e) => seen.push(...e.user_ids.map((id) => `${name} ${id}`)));
    const next = async (count) => { while (seen.length < count) await new Promise((resolve) => setTimeout(resolve, 20)); };
    const come = async (some, id) => {
      const client = some.make(null, 'app-key', authenticate({ id }));
      client.signin();
      await event(client.connection, 'connected');
      await client.user.signinDonePromise;
      return client;
    };
    watcher.signin();
    await next(2);
    const first = await come(there, 'x');
    await come(there, 'y');
    await next(4);
    first.disconnect();
    await come(here, 'x'); // a page change, to the other node
    nodes[1].process.kill('SIGKILL');
    await next(5);
    assert.deepEqual(seen, ['offline x', 'offline y', 'online x', 'online y', 'offline y']);
    here.close();
    there.close();
  } finally {
    for (const node of nodes) node.process.kill('SIGKILL');
    redis.kill('SIGKILL');
  }
});
