// The status page in Chromium, opened with the link of start --dev: the console works without
// the secret, once. With SCREENSHOTS=folder it also takes a picture.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import puppeteer from 'puppeteer-core';

const { REVERB_LINK: link, REVERB_SECRET: secret, SCREENSHOTS: folder } = process.env;

let browser;
before(async () => {
  browser = await puppeteer.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
});
after(() => browser?.close());

const wait = { timeout: 20_000, polling: 50 };
const shows = (page, id, text) => page.waitForFunction((id, text) => document.querySelector(id).textContent.includes(text), wait, id, text);

test('a link opens the console once', async () => {
  const page = await browser.newPage();
  const problems = [], sent = [];
  page.on('pageerror', (e) => problems.push(String(e)));
  page.on('request', (r) => sent.push(r.url() + ' ' + (r.postData() ?? '')));
  page.on('response', async (r) => sent.push(await r.text().catch(() => '')));
  await page.goto(link);
  await shows(page, '#channel-note', 'No channel of this app is occupied.'); // listed without a click
  assert.equal(await page.evaluate('location.href'), link.split('#')[0]);
  await shows(page, '#secret-hint', 'opened with its link');
  await page.type('#channel', 'private-news');
  await page.click('#watch');
  await page.type('#event', 'greeting');
  for (let seen = false; !seen;) { // the watcher may not be there yet
    await page.click('#publish');
    seen = await page.waitForFunction("document.querySelector('#log').textContent.includes('greeting')", { timeout: 1000, polling: 50 }).then(() => true, () => false);
  }
  if (folder) await page.screenshot({ path: `${folder}/link.png`, fullPage: true });
  assert.deepEqual(problems, []);
  assert.ok(!sent.some((s) => s.includes(secret)), 'the secret has gone over the wire');
  assert.ok(!(await page.content()).includes(secret), 'the secret stands in the page');

  const again = await browser.newPage(); // the same link, a second time
  await again.goto(link);
  await shows(again, '#channel-note', 'the link has been used, or is older than 10 minutes');
  await again.click('#list');
  await shows(again, '#channel-note', 'The secret of the app is missing.');
  await again.type('#secret', secret);
  await again.click('#list');
  await shows(again, '#channel-note', 'No channel');

  await page.bringToFront();
  await page.reload(); // the session was in the memory of the page
  await page.waitForFunction("document.querySelector('#app').value !== ''", wait);
  await page.click('#list');
  await shows(page, '#channel-note', 'The secret of the app is missing.');
});
