/** What tests of other packages need from the daemon's own. */
export { ServedMemory } from './server/testing/served-memory.js';
export { TestAuthority } from './server/testing/test-authority.js';
export { MembershipFiles } from './cluster/membership-files.js';
