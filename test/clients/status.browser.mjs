// The status page in Chromium: figures, a channel that is watched, an event that is
// published. With SCREENSHOTS=folder it also takes pictures.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import puppeteer from 'puppeteer-core';

const { REVERB_ADMIN: admin, SCREENSHOTS: folder } = process.env;

let browser;
before(async () => {
  browser = await puppeteer.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
});
after(() => browser?.close());

const wait = { timeout: 20_000, polling: 50 };

test('watch and publish', async () => {
  const page = await browser.newPage();
  const problems = [];
  const outside = [];
  page.on('pageerror', (e) => problems.push(String(e)));
  page.on('console', (m) => { if (m.type() === 'error') problems.push(m.text()); });
  page.on('request', (r) => { if (!r.url().startsWith(admin)) outside.push(r.url()); });
  await page.goto(`${admin}/`);
  await page.waitForFunction("document.querySelector('#connections').textContent.includes('3')", wait);
  await page.waitForFunction("document.querySelectorAll('#apps tr').length === 1", wait);
  await page.select('#app', 'app-id');
  await page.type('#secret', 'app-secret');
  await page.$eval('#channel', (e) => { e.value = ''; });
  await page.type('#channel', 'private-news');
  await page.click('#watch');
  await page.waitForFunction("document.querySelector('#log') !== null", wait);
  await page.$eval('#event', (e) => { e.value = ''; });
  await page.type('#event', 'greeting');
  await page.$eval('#data', (e) => { e.value = '{"hello":"wörld <b>"}'; e.dispatchEvent(new Event('input')); });
  // The watcher may not be there yet when the first event goes out.
  for (let seen = false; !seen;) {
    await page.click('#publish');
    seen = await page.waitForFunction("document.querySelector('#log').textContent.includes('wörld <b>')", { timeout: 1000, polling: 50 }).then(() => true, () => false);
  }
  await page.waitForFunction("/\\b3\\b/.test(document.querySelector('#outcome').textContent)", wait);
  await page.click('#list');
  await page.waitForFunction("document.querySelector('#channel-list').textContent.includes('private-news')", wait).catch(() => problems.push('the list of channels lacks private-news'));
  assert.deepEqual(outside, []);
  assert.deepEqual(problems, []);
  if (folder) {
    for (const scheme of ['light', 'dark']) for (const [name, width, height] of [['desktop', 1280, 900], ['phone', 375, 812]]) {
      await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
      await page.setViewport({ width, height });
      await page.screenshot({ path: `${folder}/${name}-${scheme}.png`, fullPage: true });
    }
  }
  // Nothing is wider than a phone.
  await page.setViewport({ width: 360, height: 740 });
  assert.ok(await page.evaluate('document.documentElement.scrollWidth') <= 360);
  // A wrong secret is told.
  await page.$eval('#secret', (e) => { e.value = 'wrong'; });
  await page.click('#publish');
  await page.waitForFunction("document.querySelector('#outcome').textContent.includes('secret')", wait);
});
