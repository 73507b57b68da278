import t from 'tap';
import { StoreError } from '../util/errors.js';
import { BODY_BYTES_MAX } from '../wire/wire-limits.js';
import { decodeJson, encodeJson, type JsonFields } from '../wire/json-body.js';
import {
  decodeDaemonScrub,
  decodeScrubRequest,
  encodeDaemonScrub,
  encodeScrubRequest,
  FINDINGS_TOLD_MAX,
  type DaemonScrub,
} from './scrub-messages.js';

const SCRUB: DaemonScrub = {
  startId: '0123456789abcdef0123456789abcdef',
  running: { pool: 1, group: 2, kind: 'deep' },
  wanted: 3,
  begun: 4,
  found: { groupsDone: 5, objectsDone: 6, errors: 7, repaired: 8, contradictions: 9 },
  findings: [
    { number: 7, pool: 1, group: 2, daemon: 3, object: 'o', what: 'missing', isRepaired: true },
  ],
};

/** As it arrives. */
function sent(fields: JsonFields): JsonFields {
  return decodeJson(encodeJson(fields));
}

t.test('what is asked and answered about scrubs is read as it was said', (t) => {
  for (const kind of ['light', 'deep', 'status'] as const)
    t.same(decodeScrubRequest(sent(encodeScrubRequest({ kind, pool: 7 }))), { kind, pool: 7 });
  t.same(decodeDaemonScrub(sent(encodeDaemonScrub(SCRUB))), SCRUB);
  const idle = { ...SCRUB, running: null, findings: [] };
  t.same(decodeDaemonScrub(sent(encodeDaemonScrub(idle))), idle);
  t.end();
});

t.test('of many findings the newest are told, and the longest fit into a body', (t) => {
  const [one] = SCRUB.findings;
  const findings = Array.from({ length: FINDINGS_TOLD_MAX + 1 }, (_, index) => ({
    ...{ number: index + 1, pool: 1, group: 2, daemon: 3, isRepaired: one?.isRepaired === true },
    ...{ object: '"'.repeat(600), what: 'x'.repeat(200) },
  }));
  const fields = encodeDaemonScrub({ ...SCRUB, findings });
  t.ok(encodeJson(fields).length < BODY_BYTES_MAX);
  t.same(decodeDaemonScrub(sent(fields)).findings, findings.slice(1));
  t.end();
});

t.test('what is out of its limits is refused', (t) => {
  const good = encodeDaemonScrub(SCRUB);
  const [finding] = SCRUB.findings;
  const bad: JsonFields[] = [
    { startId: 'x' },
    { running: 1 },
    { wanted: -1 },
    { found: null },
    { found: { ...SCRUB.found, errors: 1.5 } },
    { findings: {} },
    { findings: Array.from({ length: FINDINGS_TOLD_MAX + 1 }, () => finding) },
    { findings: [{ ...finding, object: 'x'.repeat(601) }] },
    { findings: [{ ...finding, isRepaired: 1 }] },
  ];
  for (const fields of bad) t.throws(() => decodeDaemonScrub({ ...good, ...fields }), StoreError);
  t.throws(() => decodeScrubRequest({ kind: 'quick', pool: 0 }), StoreError);
  t.throws(() => decodeScrubRequest({ kind: 'deep', pool: -1 }), StoreError);
  t.end();
});
