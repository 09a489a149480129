// What the tests of clients that come back share: a proxy that cuts, numbers that repeat.
import { connect, createServer } from 'node:net';

export const kinds = ['news', 'private-news', 'private-encrypted-news', 'cache-news', 'presence-news'];
export const CUTS = process.env.REVERB_TEST_LONG ? 50 : 5;

// Cutter is a proxy that cuts what it carries.
export class Cutter {
  constructor(to) { Object.assign(this, { to, open: new Set(), cuts: 0 }); }

  async start() {
    this.server = createServer((client) => {
      const far = connect(this.to, '127.0.0.1');
      const pair = () => { client.destroy(); far.destroy(); this.open.delete(pair); };
      this.open.add(pair);
      for (const s of [client, far]) s.on('error', pair).on('close', pair);
      client.pipe(far).pipe(client);
    });
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.port = this.server.address().port;
    return this;
  }

  cut() { for (const pair of [...this.open]) { this.cuts++; pair(); } }
  close() { this.cut(); this.server.close(); }
}

// random draws numbers from a seed.
export function random(seed) {
  return (n) => { seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0; return Math.floor(seed / 2 ** 32 * n); };
}
