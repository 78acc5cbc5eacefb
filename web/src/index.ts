export type { FileContent, WithETag } from './answers.js'
export { GatewayClient, type GatewayClientOptions } from './client.js'
export {
  GatewayError,
  isProblem,
  MissingPredecessors,
  NoAnswer,
  NotAText,
  PROBLEM_CODES,
  ProblemAnswer,
  type ProblemCode,
  UnexpectedAnswer
} from './errors.js'
export type { FeedFilter, FeedTransport, FollowOptions } from './feed.js'
export { checkedPath } from './names.js'
export { DEFAULT_SETTINGS, type PollSettings, type StopReason, UNATTENDED } from './policy.js'
export type { DocumentChange } from './polling/changed-files.js'
export { DocumentPoller, type DocumentPollerOptions } from './polling/document-poller.js'
export { PollingManager, type PollingManagerOptions, pollingManager, type RegisterOptions } from './polling/manager.js'
export type { PollTransport } from './polling/project-feed.js'
export type { PollCallbacks, PollContext, Polled, PollFunction, Subscription } from './polling/subscription.js'
export { type PollerOptions, TurnPoller, type TurnPollerOptions } from './polling/turn-poller.js'
export {
  Project,
  type ReadTextOptions,
  type RichTextSchema,
  type StatusQuestion,
  type SyncAnswer,
  type SyncChange,
  type TextOptions,
  type WriteOptions
} from './project.js'
export type { GatewayRequest, RequestOptions, Sender } from './request.js'
export type { HeldOptions, PageOptions } from './sessions.js'
export type { Token } from './token.js'
export { type Turn, TurnFailed } from './turn.js'
export type { FollowTurnOptions, TurnEvent } from './turn-events.js'
export * from './wire.js'
