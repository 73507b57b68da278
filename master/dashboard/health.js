/** Whether all is well, and if not, what helps. */
/** @import { ClusterStatus, Problem } from '@store/core' */
import { byId, element, named, setText } from './dom.js';
import { counted } from './format.js';
import { badge, icon } from './icons.js';

const TITLES = {
  ok: 'Healthy',
  warning: 'Needs attention',
  error: 'Something is wrong',
};

let shown = '';

/** @param {ClusterStatus} status */
export function showHealth(status) {
  const { health, problems } = status;
  const signature = JSON.stringify([health, problems, detail(status)]);
  if (signature === shown) return;
  shown = signature;
  byId('health').dataset['health'] = health;
  byId('health-icon').replaceChildren(icon(health));
  setText(byId('health-title'), TITLES[health]);
  setText(byId('health-detail'), detail(status));
  byId('problems').replaceChildren(...problems.map(problemItem));
  document.title =
    problems.length === 0 ? 'Store' : `(${problems.length}) ${TITLES[health]} – Store`;
  setText(byId('announcement'), `${TITLES[health]}. ${detail(status)}`);
}

/** @param {ClusterStatus} status */
function detail({ problems, daemons, pools }) {
  const errors = problems.filter(({ severity }) => severity === 'error').length;
  const warnings = problems.length - errors;
  const found = [
    ...(errors > 0 ? [counted(errors, 'error')] : []),
    ...(warnings > 0 ? [counted(warnings, 'warning')] : []),
  ];
  if (found.length > 0) return found.join(', ');
  if (daemons.length === 0) return 'No daemon has joined yet; they appear here as soon as they do.';
  const groups = pools.reduce((sum, pool) => sum + pool.groups, 0);
  if (groups === 0) return `${counted(daemons.length, 'daemon')}, no pools yet`;
  return `${counted(daemons.length, 'daemon')}; all ${counted(groups, 'group')} served with all their copies`;
}

/** @param {Problem} problem */
function problemItem({ severity, where, what, advice }) {
  return element(
    'li',
    { class: 'problem', 'data-severity': severity },
    badge(severity, severity === 'error' ? 'Error' : 'Warning'),
    element(
      'div',
      {},
      element('p', { class: 'problem-what' }, named(where, 'problem-where'), ' ', what),
      element('p', { class: 'problem-advice' }, ...withCommands(advice)),
    ),
  );
}

/** What stands between backquotes is something to type. @param {string} text */
function withCommands(text) {
  return text.split('`').map((part, index) => (index % 2 === 1 ? element('code', {}, part) : part));
}
