// pusher-js on two nodes: subscribers learn how many they are on both. test/cluster_counts_test.go
// starts the nodes, and kills the second one when this test says so.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { Clients, told } from './server.mjs';

const [one, two] = process.env.REVERB_TEST_PORTS.split(',').map((port) => new Clients({ port: Number(port) }));

test('subscribers of two nodes', async () => {
  for (const name of ['news', 'cache-news']) {
    const a = one.make().subscribe(name);
    await told(a, 1);
    const b = two.make().subscribe(name);
    await Promise.all([told(a, 2), told(b, 2)]);
    const client = two.make();
    const c = client.subscribe(name);
    await Promise.all([told(a, 3), told(b, 3), told(c, 3)]);
    client.disconnect();
    await Promise.all([told(a, 2), told(b, 2)]);
  }
  const a = one.make().subscribe('news');
  await told(a, 3);
  writeFileSync(process.env.REVERB_TEST_KILL, '');
  await told(a, 2, 60_000); // when the lease of the second node has run out
  one.close();
  two.close();
});
