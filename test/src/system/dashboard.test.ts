/** The dashboard in a real browser: what people see of a cluster, and that they can work with it however they look. */
import type { HttpServer, HttpServerOptions } from '@store/master';
import { SampleCluster, sampleServer } from '@store/master/testing';
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';
import { reservePort } from '@store/core/testing';
import t from 'tap';
import { needs } from '../host/requirements.js';
import type { HasTeardown } from '../host/temp-folder.js';
import { waitUntil } from '../host/wait-until.js';

const NEEDS = needs({ commands: ['chromium'] });
/** Debian's; a browser that playwright brings itself is not asked for. */
const CHROMIUM = '/usr/bin/chromium';
const WAIT_MS = 10_000;
const PHONE = { viewport: { width: 360, height: 740 } };
const HOSTILE = `<img src="x" onerror="window.hacked = 1"><b>${'long-name-without-any-space'.repeat(5)}</b>`;
/** WCAG 2.2, level AA, for text of the size that is read. */
const CONTRAST_MIN = 4.5;

let browser: Browser | null = null;
t.teardown(() => browser?.close());

/** Reports often, so that tests need not wait. */
function serve(
  t: HasTeardown,
  cluster: SampleCluster,
  options: Partial<HttpServerOptions> = {},
  port = 0,
): Promise<HttpServer> {
  return sampleServer(t, cluster, { limits: { pushMs: 50 }, ...options }, port);
}

/** @returns The page once it shows a report, and what the browser complained about */
async function open(
  t: HasTeardown,
  url: string,
  options: BrowserContextOptions = {},
): Promise<{ page: Page; complaints: string[] }> {
  // Debian's Chromium refuses its sandbox to root; it loads nothing here but our own pages.
  browser ??= await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
  const context = await browser.newContext({ timezoneId: 'UTC', ...options });
  t.teardown(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  const complaints: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== url) complaints.push(`asked for ${request.url()}`);
  });
  await page.goto(url);
  await page.locator('#report').waitFor();
  await page.locator('.chart-line-0').first().waitFor({ state: 'attached' });
  return { page, complaints };
}

async function waitForText(page: Page, selector: string, text: RegExp): Promise<void> {
  await page.locator(selector).filter({ hasText: text }).waitFor({ state: 'attached' });
}

t.test('a healthy cluster is seen to be healthy, at a glance', NEEDS, async (t) => {
  const server = await serve(t, SampleCluster.healthy());
  const { page, complaints } = await open(t, server.url);
  t.equal(await page.locator('h2#health-title').innerText(), 'Healthy');
  t.match(await page.locator('#capacity').innerText(), /47 % full[^]*27\.3 TiB[^]*58\.2 TiB/);
  t.match(
    await page.locator('#fleet').innerText(),
    /12 of 12 daemons up[^]*10\.0\.0\.11:9800\s*Leader/,
  );
  t.match(await page.locator('#traffic').innerText(), /9,359\/s\s+4,080\/s[^]*219 MiB\/s/);
  t.match(await page.locator('#recovery').innerText(), /Nothing to recover/);
  t.equal(await page.locator('#daemons tbody tr:not(.group)').count(), 12);
  t.match(await page.locator('#daemons tr.group').first().innerText(), /node-01[^]*rack-a/);
  t.match(await page.locator('#pools').innerText(), /vms[^]*Complete[^]*3, one per host/);
  t.match(await page.locator('#images').innerText(), /orders\s+databases\s+2 TiB/);
  t.match(await page.locator('#connection').innerText(), /^Live, 12:00:00$/);
  for (const title of ['Operations', 'Throughput', 'Mean latency']) {
    const chart = page.getByRole('img', { name: `${title}, last hour` });
    t.match(await chart.locator('desc').textContent(), /Reads: .+ to .+\. Writes: .+ to /);
  }
  await page.getByText('Show the numbers').click();
  await page.locator('#history-table table').waitFor();
  t.equal(await page.locator('#history-table tbody tr').count(), 12);
  t.strictSame(complaints, []);
});

t.test('of a degraded cluster one sees what is wrong, where, and what helps', NEEDS, async (t) => {
  const server = await serve(t, SampleCluster.degraded());
  const { page, complaints } = await open(t, server.url);
  t.match(await page.locator('#health').innerText(), /Something is wrong\s+1 error, 2 warnings/);
  t.match(await page.locator('.problem').first().innerText(), /Error[^]*pool vms[^]*2 groups/);
  t.equal(await page.locator('.problem code').first().innerText(), 'store daemon remove 2');
  t.match(await page.locator('#fleet').innerText(), /11 of 12 daemons up\s+1 down\s+1 draining/);
  t.match(
    await page.locator('#recovery').innerText(),
    /212 GiB to copy\s+184 MiB\/s, about 20 min/,
  );
  const down = page.locator('#daemons tbody tr').filter({ hasText: '10.0.0.20:9811' });
  t.match(await down.innerText(), /Down\s+for 5 min, 5 starts in 1 h/);
  t.match(await page.locator('#pools').innerText(), /2 wait\s+37 lack copies/);
  t.match(await page.title(), /^\(3\) /);
  t.equal(await page.locator('.disk[data-kind=down] .icon-error').count(), 1);
  t.strictSame(complaints, []);
});

t.test(
  'what changes is shown at once, and leaves alone what somebody works with',
  NEEDS,
  async (t) => {
    const cluster = SampleCluster.healthy();
    const server = await serve(t, cluster);
    const { page, complaints } = await open(t, server.url);
    const before = cluster.status();
    await page.locator('#daemons thead button').first().focus();
    await page.evaluate("document.querySelector('#daemons tbody tr:not(.group)').id = 'kept'");
    const drawn = await page.locator('.chart-line-0').first().getAttribute('d');

    const [, ...samples] = cluster.history().samples;
    const last = samples.at(-1);
    if (last === undefined) throw new Error('the history is empty');
    const next = { ...last, time: last.time + 10, readsPerSecond: 123_456 };
    const problem = {
      severity: 'warning',
      where: 'daemon 12',
      what: 'It is slow.',
      advice: 'Wait.',
    } as const;
    cluster.report(
      {
        ...SampleCluster.degraded().status(),
        daemons: before.daemons,
        health: 'warning',
        problems: [problem],
      },
      { stepSeconds: 10, samples: [...samples, next] },
    );
    await waitForText(page, '#health', /Needs attention[^]*daemon 12[^]*It is slow/);
    await waitForText(page, '#announcement', /^Needs attention\. 1 warning$/);
    await waitForText(page, '.chart-legend', /123,456\/s/);
    t.not(await page.locator('.chart-line-0').first().getAttribute('d'), drawn);
    t.equal(await page.locator('#kept').count(), 1, 'a row that says the same is the same');
    t.equal(await page.evaluate('document.activeElement.closest("th") !== null'), true);
    t.strictSame(complaints, []);
  },
);

t.test(
  'a lost connection is said, with the age of what is shown, until it is back',
  NEEDS,
  async (t) => {
    const cluster = SampleCluster.healthy();
    const port = await reservePort(); // it is served there again
    const server = await serve(t, cluster, {}, port);
    const { page } = await open(t, server.url);
    await server.close();
    await waitForText(page, '#lost', /Connection lost[^]*What you see is from 12:00:00, \d+ s ago/);
    t.match(await page.locator('#connection').innerText(), /Connection lost/);
    t.equal(await page.locator('#health-title').innerText(), 'Healthy', 'the last report stays');
    await serve(t, cluster, {}, port);
    await page.getByRole('button', { name: 'Try again now' }).click();
    await page.locator('#lost').waitFor({ state: 'hidden' });
    t.match(await page.locator('#connection').innerText(), /^Live/);
  },
);

t.test('when another master leads, the page moves there', NEEDS, async (t) => {
  let leads = true;
  const leader = await serve(t, SampleCluster.degraded());
  const former = await serve(t, SampleCluster.healthy(), {
    leads: () => leads,
    masterOf: () => leader.url,
    limits: { aliveMs: 50 },
  });
  const { page } = await open(t, former.url);
  leads = false;
  await waitUntil('the page of the leader', WAIT_MS, () => page.url().startsWith(leader.url));
  await page.locator('#report').waitFor();
  t.equal(await page.locator('#health-title').innerText(), 'Something is wrong');
});

t.test('everything can be done with the keyboard, and one sees where one is', NEEDS, async (t) => {
  const server = await serve(t, SampleCluster.healthy(200));
  const { page, complaints } = await open(t, server.url);
  const focused = async (): Promise<string> => page.evaluate('document.activeElement.textContent');
  await page.keyboard.press('Tab');
  t.equal(await focused(), 'Skip to the content');
  t.equal(await page.evaluate('getComputedStyle(document.activeElement).outlineStyle'), 'solid');
  await page.keyboard.press('Enter');
  t.equal(await page.evaluate('document.activeElement.id'), 'content');

  await page.keyboard.press('Tab');
  await page.keyboard.press('Home');
  await waitForText(page, '.chart-time', /^at 11:00$/);
  await page.keyboard.press('ArrowRight');
  await waitForText(page, '.chart-time', /^at 11:01$/);

  const full = page.getByRole('columnheader', { name: 'Full' });
  await full.getByRole('button').focus();
  await page.keyboard.press('Enter');
  t.equal(await full.getAttribute('aria-sort'), 'descending');
  t.equal(await page.getByRole('checkbox', { name: 'Group by host' }).isChecked(), false);
  const values = await page.evaluate<number[]>(
    "[...document.querySelectorAll('#daemons [role=meter]')].map((bar) => Number(bar.ariaValueNow))",
  );
  t.strictSame(
    values,
    values.toSorted((a, b) => b - a),
  );
  await page.keyboard.press('Space');
  t.equal(await full.getAttribute('aria-sort'), 'ascending');

  const rows = page.locator('#daemons tbody tr');
  t.equal(await rows.count(), 64);
  await page.getByRole('button', { name: 'Show all 200 daemons' }).press('Enter');
  t.equal(await rows.count(), 200);
  await page.getByRole('searchbox', { name: 'Filter daemons' }).fill('rack-c');
  t.equal(await rows.count(), 16);
  await page.getByRole('checkbox', { name: 'Group by host' }).press('Space');
  t.equal(await page.locator('#daemons tr.group').count(), 4);
  t.strictSame(complaints, []);
});

t.test('a name is text, whatever is in it', NEEDS, async (t) => {
  const cluster = SampleCluster.degraded();
  const { daemons, pools, images, problems, masters } = cluster.status();
  cluster.report({
    daemons: daemons.map((daemon) => ({
      ...daemon,
      host: HOSTILE,
      rack: HOSTILE,
      address: HOSTILE,
    })),
    pools: pools.map((pool) => ({ ...pool, name: HOSTILE })),
    images: images.map(({ sizeBytes }, index) => ({
      pool: HOSTILE,
      name: `${HOSTILE}${index}`,
      sizeBytes,
    })),
    problems: problems.map((one) => ({
      ...one,
      where: HOSTILE,
      what: HOSTILE,
      advice: `\`${HOSTILE}`,
    })),
    masters: masters.map((master) => ({ ...master, address: HOSTILE })),
  });
  const server = await serve(t, cluster);
  const { page, complaints } = await open(t, server.url, PHONE);
  t.equal(await page.locator('img').count(), 1, 'our own icon');
  for (const part of [
    '.problem-where',
    '.problem-what',
    'code',
    '#pools',
    '#images',
    '#daemons',
    '.masters',
  ])
    t.ok((await page.locator(part).first().innerText()).includes(HOSTILE), part);
  t.equal(await page.evaluate('window.hacked'), undefined);
  t.equal(await page.evaluate('document.documentElement.scrollWidth'), 360);
  t.strictSame(complaints, []);
});

t.test(
  'it fits a phone, and says nothing strange, with no daemon and with many',
  NEEDS,
  async (t) => {
    const clusters = [0, 1, 4, 200].map((count) => SampleCluster.healthy(count));
    const unmeasured = SampleCluster.degraded(4);
    const unknown = { readsPerSecond: NaN, writeBytesPerSecond: NaN, readMs: NaN };
    const { traffic, daemons } = unmeasured.status();
    unmeasured.report({
      traffic: { ...traffic, ...unknown },
      daemons: daemons.map((one) => ({
        ...one,
        ...(one.id % 2 === 0 ? { capacityBytes: 0 } : { hasReported: false, freeBytes: 0 }),
        traffic: { ...traffic, ...unknown },
      })),
      recovery: { bytesLeft: 5, bytesPerSecond: 0, secondsLeft: null },
    });
    for (const cluster of [...clusters, unmeasured]) {
      const server = await serve(t, cluster);
      const { page, complaints } = await open(t, server.url, PHONE);
      await page.locator('#history-numbers summary').click();
      await page.locator('#history-table table').waitFor();
      const count = cluster.status().daemons.length;
      t.equal(await page.evaluate('document.documentElement.scrollWidth'), 360, `${count} daemons`);
      const text = await page.evaluate<string>('document.documentElement.outerHTML');
      t.notMatch(text, /NaN|undefined|Infinity|\[object/);
      t.strictSame(complaints, []);
    }
  },
);

t.test('text is easy to read, light and dark', NEEDS, async (t) => {
  const server = await serve(t, SampleCluster.degraded());
  const pages: string[] = [];
  for (const colorScheme of ['light', 'dark'] as const) {
    const { page, complaints } = await open(t, server.url, { colorScheme });
    pages.push(await page.evaluate('getComputedStyle(document.body).backgroundColor'));
    t.strictSame(await page.evaluate(FAINT_TEXTS), [], colorScheme);
    t.strictSame(complaints, []);
  }
  t.strictSame(pages, ['rgb(245, 246, 248)', 'rgb(15, 18, 23)']);
});

/** In the page: every text that stands out from its background less than it should. */
const FAINT_TEXTS = `(() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = numbers(color).map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    return numbers(color)[3] === 0 ? behind(element.parentElement) : color;
  };
  const faint = [];
  for (const element of document.body.querySelectorAll('*')) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== '');
    if (!hasText || element.getClientRects().length === 0) continue;
    const style = getComputedStyle(element);
    const [high, low] = [element instanceof SVGElement ? style.fill : style.color, behind(element)]
      .map(light)
      .sort((a, b) => b - a);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < ${CONTRAST_MIN}) faint.push(element.textContent + ' ' + contrast.toFixed(2));
  }
  return faint;
})()`;
