/** What tests of other packages need from the master's own. */
export { EtcdCluster } from './testing/etcd-cluster.js';
export { SampleCluster } from './http/testing/sample-cluster.js';
export { SAMPLE_TOKEN, sampleServer } from './http/testing/sample-server.js';
export { acceptDataLoss } from './cluster/accept-data-loss.js';
export { decideGroupRequest } from './cluster/decide-groups.js';
export { changeDaemon, registerDaemon } from './cluster/decide-daemons.js';
export { createPool } from './cluster/decide-pools.js';
export { tendGroups, TEND_LIMITS, type TendMemory } from './cluster/tend-groups.js';
export { GroupTargets, presentDaemons } from './cluster/group-targets.js';
export { aliveIn, type RosterView } from './cluster/roster-view.js';
