export * from './util/crc32c.js';
export * from './util/errors.js';
export * from './util/integers.js';
export * from './util/invariant.js';
export * from './util/limits.js';
export { PeerPace, type PaceLimits, type PeerState } from './util/peer-pace.js';
export * from './util/peer-address.js';
export * from './util/piece-checks.js';
export { appendBlock } from './util/run-checksum.js';
export * from './util/size.js';
export type * from './env/env.js';
export type * from './env/log.js';
export type * from './env/network.js';
export * from './env/disk.js';
export * from './pool/checked-pool.js';
export * from './pool/epoched-pool.js';
export { decodeFlush } from './wire/flush-request.js';
export { decodeGuardRequest, encodeGuardRequest } from './wire/guard-request.js';
export * from './pool/object-pool.js';
export type * from './pool/object-store.js';
export { MemStore } from './pool/mem-store.js';
export { openRealDisk } from './env/real-disk.js';
export { makeFolder } from './env/real-make-folder.js';
export { dropPages } from './env/real-memory.js';
export { exitNow } from './env/real-native.js';
export { readRing } from './env/real-read-ring.js';
export { realEnv } from './env/real-env.js';
export { locatorHash, type LocatorHash } from './util/locator-hash.js';
export * from './util/byte-parts.js';
export { Image, IMAGE_ABILITIES } from './image/image.js';
export { checkOwnerName, type ImageWriter } from './image/image-writer.js';
export type { RoleRequest } from './image/writer-roles.js';
export { oneByOne } from './util/one-by-one.js';
export { ImageCatalog, type ImageInfo, type ListedImage } from './image/image-catalog.js';
export { checkImageName } from './image/image-name.js';
export { checkPoolName } from './util/pool-name.js';
export { checkImageSize } from './image/image-header.js';
export { splitDataKey } from './image/striping.js';
export * from './config/configuration.js';
export * from './config/setting.js';
export { realClock, realRandom, realTimers } from './env/real-clock.js';
export { LOG_FORMATS, realLog, type LogFormat, type RealLogOptions } from './env/real-log.js';
export type { DirectConnection } from './env/real-connection.js';
export { realNetwork } from './env/real-network.js';
export { errnoText, POLL, pollSockets, RawSocket, type SocketAddress } from './env/real-sockets.js';
export { RealTlsContext, type TlsKeys } from './env/real-tls.js';
export {
  realTlsClient,
  type RealTlsClientContext,
  type TlsClientKeys,
} from './env/real-tls-client.js';
export { silentLog } from './env/silent-log.js';
export { DescriptorChannel, type ChannelMessage } from './env/descriptor-channel.js';
export { DESCRIPTORS_MAX } from './env/descriptor-passing.js';
export {
  closeDescriptor,
  needSocketCalls,
  socketCalls,
  SOCK_DGRAM,
  SOCK_STREAM,
  systemError,
  UNIX_PATH_BYTES_MAX,
} from './env/socket-calls.js';
export { BufferPool } from './env/buffer-pool.js';
export { ReplyOutbox } from './env/reply-outbox.js';
export { Reply } from './env/reply.js';
export { crc32cShort } from './util/crc32c-short.js';
export { RecentMap } from './util/recent-map.js';
export { ConnectionBudget, ServerBudget, type BudgetLimits } from './util/budget.js';
export { Blocklist } from './auth/blocklist.js';
export {
  ASSOCIATION_BYTES,
  associationKeyOf,
  DATAGRAM_HEADER_BYTES,
  DATAGRAM_TRAILER_BYTES_MAX,
  DATAGRAM_KIND,
  type DatagramOpener,
  type DatagramRefusal,
  type DatagramSealer,
} from './auth/datagram-header.js';
export * from './auth/datagram-keys.js';
export * from './auth/datagram-plain.js';
export * from './auth/datagram-seal.js';
export * from './auth/moment.js';
export * from './auth/pool-secret.js';
export * from './auth/proof.js';
export { SECRET_FILE_BYTES_MAX } from './auth/secret-document.js';
export * from './auth/ticket.js';
export * from './auth/ticket-check.js';
export * from './auth/ticket-file.js';
export * from './auth/ticket-name.js';
export * from './wire/body-reader.js';
export * from './wire/frame-header.js';
export { FrameReader, type FrameRules } from './wire/frame-reader.js';
export * from './wire/greeting.js';
export * from './wire/object-answers.js';
export * from './wire/object-request.js';
export * from './wire/ops.js';
export {
  BODY_BYTES_MAX,
  CHAINS_MAX,
  DATAGRAM_BYTES_DEFAULT,
  DATAGRAM_BYTES_MIN,
  GREETING_BYTES_MAX,
  MESSAGE_BYTES_MAX,
  PAYLOAD_BYTES_MAX,
  PROTOCOL_VERSION,
  REQUEST_SPAN_MAX,
} from './wire/wire-limits.js';
export type { CheckedPool, PieceChecks } from './pool/checked-pool.js';
export { BackOff } from './env/back-off.js';
export { openRemoteStore, RemoteStore } from './client/remote-store.js';
export type { ClientCounters, DaemonClientOptions } from './client/daemon-client.js';
export * from './pool/chain.js';
export * from './pool/guard.js';
export * from './pool/guarded-pool.js';
export { LayeredView } from './pool/layered-view.js';
export {
  decodeChain,
  encodeChain,
  encodeChainAnswer,
  decodeChainAnswer,
} from './wire/chain-message.js';
export * from './map/storage-map.js';
export * from './map/map-limits.js';
export { checkMap, DURABILITIES, MEMBERSHIPS, orderedMap } from './map/map-rules.js';
export { decodeMap, encodeMap } from './map/map-codec.js';
export { contradiction } from './map/map-history.js';
export { groupOf, isNewer, MapView } from './map/map-lookup.js';
export {
  placePool,
  placePools,
  placePoolsSliced,
  placementShares,
  type Candidate,
  type PlacedPool,
  type Placement,
  type Surplus,
} from './map/placement.js';
export { COPY } from './map/placement-shares.js';
export { groupSeed, placementScore } from './map/placement-score.js';
export { planPlacement, type PlacementPlan, type PlannedDaemon } from './map/placement-plan.js';
export type * from './control/cluster-status.js';
export type { ClusterGuide } from './cluster/cluster-guide.js';
export { ClientKey } from './auth/client-key.js';
export {
  ControlChannel,
  NO_ANSWER,
  saying,
  type ControlChannelOptions,
  type ControlAnswer,
  type ControlEvents,
  type ControlMessage,
} from './control/control-channel.js';
export { CONTROL, controlOpName, type ControlOp } from './control/control-ops.js';
export * from './control/meeting.js';
export {
  MasterLink,
  parseMasterAddress,
  type MasterAddress,
  type MasterLinkEvents,
  type MasterLinkOptions,
} from './control/master-link.js';
export * from './wire/json-body.js';
export * from './control/daemon-messages.js';
export * from './control/scrub-messages.js';
export * from './control/copy-messages.js';
export * from './control/group-requests.js';
export { MasterGuide, type MasterGuideOptions } from './cluster/master-guide.js';
export { ClusterStore } from './cluster/cluster-store.js';
export type { ClusterPool } from './cluster/cluster-pool.js';
export type { ClusterStoreOptions } from './cluster/pool-lane.js';
