import {
  DiskError,
  OBJECT_KIND,
  StoreError,
  type DiskDone,
  type MetaChange,
  type MetaStore,
} from '@store/core';
import t from 'tap';
import { Committer, type CommitJob, type Transaction } from './committer.js';
import { STORE_KEY, decodeStoreRecord, headKey, sealed, unseal } from './format.js';
import { StoredObject } from './stored-object.js';

interface Commit {
  readonly changes: readonly MetaChange[];
  readonly end: (error: DiskError | null) => void;
}

/** A committer over a metadata store whose commits end when the test says so. */
function makeWorld() {
  const commits: Commit[] = [];
  const failures: string[] = [];
  const meta = {
    commit: (changes: readonly MetaChange[], done: DiskDone) =>
      commits.push({ changes, end: done }),
  } as Pick<MetaStore, 'commit'> as MetaStore; // it uses nothing else of it
  let nextObjectId = 1;
  const record = () => ({
    diskId: Buffer.alloc(16),
    startId: Buffer.alloc(16),
    clean: false,
    liveSequence: 0,
    nextObjectId,
    nextPoolId: 1,
  });
  const committer = new Committer(meta, record, (error) => {
    failures.push(error.errno);
    return new StoreError('E_DISK_FAILED', error.message);
  });
  return { committer, commits, failures, giveOutId: () => (nextObjectId += 1) };
}

const turn = (): Promise<void> => new Promise(queueMicrotask);

function job(build: (transaction: Transaction) => void, answers: unknown[] = []): CommitJob {
  return { build, committed: (error) => answers.push(error?.errno ?? null) };
}

function makeObject(): StoredObject {
  const key = Buffer.from('key');
  const head = headKey(1, { high: 1, low: 2 }, key);
  return new StoredObject(1, 'key', key, head, OBJECT_KIND.imageData);
}

function valueOf(commit: Commit | undefined, key: Buffer): Buffer | null | undefined {
  return commit?.changes.find((change) => change.key.equals(key))?.value;
}

await t.test('jobs of one turn share a transaction, later ones the next', async (t) => {
  const { committer, commits } = makeWorld();
  const answers: unknown[] = [];
  const key = Buffer.from('k');
  const put = (): CommitJob =>
    job((transaction) => transaction.change(key, sealed(key, Buffer.alloc(1))), answers);
  committer.add(put());
  committer.add(put());
  t.equal(commits.length, 0);
  t.notOk(committer.idle);
  await turn();
  t.equal(commits.length, 1);
  t.equal(commits[0]?.changes.length, 3, 'two changes and the record of the folder');
  committer.add(put());
  await turn();
  t.equal(commits.length, 1, 'one transaction at a time');
  commits[0]?.end(null);
  t.same(answers, [null, null]);
  t.equal(commits.length, 2);
  commits[1]?.end(null);
  t.same(answers, [null, null, null]);
  t.ok(committer.idle);
});

await t.test('a job builds on what the jobs before it staged', async (t) => {
  const { committer, commits } = makeWorld();
  const object = makeObject();
  committer.add(job((transaction) => transaction.stage(object, object.encode())));
  committer.add(
    job((transaction) => {
      const head = Buffer.from(transaction.head(object) ?? '');
      head[28] = 1;
      transaction.stage(object, head);
    }),
  );
  await turn();
  const value = valueOf(commits[0], object.headKey);
  t.equal(commits[0]?.changes.length, 2, 'one head, one record of the folder');
  t.equal(value?.[28], 1);
  t.ok(value && unseal(object.headKey, value), 'sealed');
  t.equal(object.durable, null, 'nothing is durable yet');
  commits[0]?.end(null);
  t.same(object.durable, value);
  t.equal(object.staged, undefined);
});

await t.test('a job that waited builds when its turn comes, with the record of then', async (t) => {
  const { committer, commits, giveOutId } = makeWorld();
  const object = makeObject();
  committer.add(job((transaction) => transaction.stage(object, object.encode())));
  await turn();
  committer.add(
    job((transaction) => {
      t.ok(transaction.head(object), 'sees the head of the transaction before');
      transaction.stage(object, null);
    }),
  );
  giveOutId();
  commits[0]?.end(null);
  const record = valueOf(commits[1], STORE_KEY);
  t.equal(record && decodeStoreRecord(record).nextObjectId, 2);
  t.equal(valueOf(commits[1], object.headKey), null);
  commits[1]?.end(null);
  t.equal(object.durable, null);
});

await t.test(
  'a full disk undoes the stage, tells each job, and the next one goes on',
  async (t) => {
    const { committer, commits, failures } = makeWorld();
    const object = makeObject();
    const answers: unknown[] = [];
    const build = (transaction: Transaction): void => transaction.stage(object, object.encode());
    committer.add(job(build, answers));
    committer.add(job(() => undefined, answers));
    await turn();
    commits[0]?.end(new DiskError('ENOSPC', 'full'));
    t.same(answers, ['ENOSPC', 'ENOSPC']);
    t.same(failures, [], 'the disk has not failed');
    t.equal(object.durable, null);
    t.equal(object.staged, undefined);
    committer.add(job(build, answers));
    await turn();
    commits[1]?.end(null);
    t.equal(answers.at(-1), null);
    t.ok(object.durable);
  },
);

await t.test('any other error stops the engine before the jobs hear of it', async (t) => {
  const { committer, commits, failures } = makeWorld();
  const object = makeObject();
  committer.add({
    build: (transaction) => transaction.stage(object, object.encode()),
    committed: (error) => {
      t.equal(error?.errno, 'EIO');
      t.same(failures, ['EIO']);
    },
  });
  await turn();
  commits[0]?.end(new DiskError('EIO', 'broken'));
  t.equal(object.durable, null);
  t.equal(object.staged, undefined);
});

await t.test('a thousand jobs and more are split, in order', async (t) => {
  const { committer, commits } = makeWorld();
  const built: number[] = [];
  for (let index = 0; index < 1500; index += 1) committer.add(job(() => built.push(index)));
  await turn();
  t.equal(built.length, 1024);
  commits[0]?.end(null);
  t.same(
    built,
    Array.from({ length: 1500 }, (_, index) => index),
  );
});
