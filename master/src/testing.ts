/** What tests of other packages need from the master's own. */
export { EtcdCluster } from './testing/etcd-cluster.js';
export { SampleCluster } from './http/testing/sample-cluster.js';
export { SAMPLE_TOKEN, sampleServer } from './http/testing/sample-server.js';
