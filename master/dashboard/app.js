/** The page: shows what the master reports, and how old it is. */
/** @import { ClusterStatus } from '@store/core' */
import { showDaemons, startDaemons } from './daemons.js';
import { byId, element, setText } from './dom.js';
import { duration, exactTime } from './format.js';
import { showHealth } from './health.js';
import { addSamples, showHistory, startHistory } from './history.js';
import { Live } from './live.js';
import { showOverview } from './overview.js';
import { showPools, startPools } from './pools.js';

/** The last report, and when it came by the clock that only goes forward. @type {{ time: string, cameMs: number } | null} */
let report = null;
/** Why nothing comes just now; null: it does. @type {string | null} */
let lostBecause = null;

/** @param {ClusterStatus} status */
function show(status) {
  report = { time: exactTime(Date.parse(status.time)), cameMs: performance.now() };
  byId('report').hidden = false;
  showHealth(status);
  showOverview(status);
  showDaemons(status.daemons);
  showPools(status.pools, status.images);
  const cluster = byId('cluster');
  setText(cluster, status.clusterId.slice(0, 8));
  cluster.title = `Cluster ${status.clusterId}`;
  setText(byId('report-origin'), `Cluster ${status.clusterId}, map version ${status.version}`);
}

/** @param {string | null} because */
function setConnection(because) {
  lostBecause = because;
  document.body.dataset['connection'] = because === null ? 'live' : 'lost';
  showConnection();
}

/** Also once a second: the report grows older by itself. */
function showConnection() {
  const mark = byId('connection');
  if (lostBecause === null) {
    byId('lost').hidden = true;
    setText(mark, report === null ? 'Connecting…' : `Live, ${report.time}`);
    return;
  }
  setText(mark, 'Connection lost');
  setText(lostText, `Connection lost. ${lostBecause}`);
  const age = report === null ? 0 : (performance.now() - report.cameMs) / 1000;
  setText(
    lostAge,
    report === null
      ? 'Nothing was received yet.'
      : `What you see is from ${report.time}, ${duration(age)} ago.`,
  );
  byId('lost').hidden = false;
  if (report === null) setText(byId('health-title'), 'No answer from the master');
}

const lostText = element('strong');
// Its age changes all the time, and nobody wants to have that read out.
const lostAge = element('span', { 'aria-live': 'off' });
const retry = element('button', { type: 'button', class: 'button' }, 'Try again now');
byId('lost').append(element('div', { class: 'page-width' }, lostText, lostAge, retry));

startHistory();
startDaemons();
startPools();
const live = new Live({
  status: show,
  history: showHistory,
  samples: addSamples,
  live: () => setConnection(null),
  lost: setConnection,
});
retry.addEventListener('click', () => live.connect());
setInterval(showConnection, 1000);
showConnection();
live.connect();
