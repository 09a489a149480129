// pusher-js with two settings of an app: numbers of subscribers, and connections that must be
// authorized in time. The cluster's test of numbers is counts.cluster.mjs.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { Server, Clients, authorizer, event, subscribed, told } from './server.mjs';

let server, auth, clients;
before(async () => {
  server = await Server.start({ REVERB_APP_SUBSCRIPTION_COUNT: 'true', REVERB_APP_AUTHORIZATION_TIMEOUT: '3' });
  auth = await authorizer(server.library());
  clients = new Clients(server, auth);
});
after(async () => { clients.close(); auth.close(); assert.equal(await server.stop(), 0); });

for (const name of ['private-room', 'private-encrypted-room', 'private-cache-room']) {
  test(`${name}: subscribers learn how many they are`, async () => {
    const numbers = [];
    const first = clients.make('1').subscribe(name);
    first.bind('pusher:subscription_count', (data) => numbers.push(data.subscription_count));
    await told(first, 1);
    const second = clients.make('2');
    await Promise.all([told(first, 2), told(second.subscribe(name), 2)]);
    second.disconnect();
    await told(first, 1);
    assert.deepEqual(numbers, [1, 2, 1]);
  });
}

test('presence channels have members, and no such number', async () => {
  const channel = clients.make('ann').subscribe('presence-room');
  channel.bind('pusher:subscription_count', () => assert.fail('a number'));
  await subscribed(channel);
  await subscribed(clients.make('bob').subscribe('presence-room'));
});

test('a connection that nothing authorizes is closed, and stays away', async () => {
  const [stranger, friend] = [clients.make('1'), clients.make('2')];
  const channel = stranger.subscribe('news');
  await Promise.all([subscribed(channel), subscribed(friend.subscribe('private-own'))]);
  const errors = [];
  stranger.connection.bind('error', (e) => errors.push(e.error?.data ?? e.data));
  const closed = event(stranger.connection, 'failed').catch(() => null);
  await event(stranger.connection, 'error');
  assert.equal(errors[0].code, 4009);
  assert.match(errors[0].message, /^Connection not authorized within 3 seconds: sign in, or subscribe/);
  await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 1500))]);
  assert.notEqual(stranger.connection.state, 'connected');
  assert.equal(friend.connection.state, 'connected');
});
