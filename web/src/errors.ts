/**
 * The errors that the client's requests throw. (An aborted request throws the reason of its signal, as `fetch` does.)
 *
 *     GatewayError
 *     ├── NoAnswer           no response: no connection, a timeout, a truncated response
 *     ├── UnexpectedAnswer   a response that is not from this API
 *     └── ProblemAnswer      the gateway responded with a problem (RFC 9457)
 *         ├── MissingPredecessors
 *         └── NotAText
 */
import { fromBase64Url } from './base64.js'
import type { ProblemDetails } from './wire.js'

/** Every `code` of a problem. A newer gateway may have others. */
export const PROBLEM_CODES = [
  'invalid_path',
  'invalid_project',
  'invalid_parameter',
  'invalid_cursor',
  'invalid_state_vector',
  'invalid_body',
  'invalid_update',
  'invalid_text',
  'nested_too_deeply',
  'malformed_request',
  'too_complex',
  'not_found',
  'project_not_found',
  'file_not_found',
  'version_not_found',
  'token_not_found',
  'hook_not_found',
  'session_not_found',
  'turn_not_found',
  'method_not_allowed',
  'request_timeout',
  'missing_predecessors',
  'version_ahead',
  'file_exists',
  'not_a_text',
  'edit_not_applicable',
  'unsupported_schema',
  'write_contention',
  'sync_refused',
  'turn_finished',
  'illegal_transition',
  'block_conflict',
  'output_conflict',
  'file_deleted',
  'precondition_failed',
  'body_too_large',
  'document_too_large',
  'prompt_too_large',
  'too_many_paths',
  'unsupported_media_type',
  'idempotency_key_reused',
  'rate_limited',
  'head_too_large',
  'host_not_allowed',
  'unauthenticated',
  'forbidden',
  'origin_not_allowed',
  'internal',
  'not_installed',
  'data_damaged',
  'overloaded',
  'storage_unavailable',
  'shutting_down',
  'quota_exceeded',
  'storage_full'
] as const

/** A known `code` of a problem. */
export type ProblemCode = (typeof PROBLEM_CODES)[number]

/** Base class of all client errors. */
export class GatewayError extends Error {
  override name = 'GatewayError'
  /** The HTTP status; null without a response. */
  readonly status: number | null
  /** The `Retry-After` header in seconds; null if it is missing. */
  retryAfterS: number | null = null
  /** The `Backoff` header in seconds; null if it is missing. */
  backoffS: number | null = null

  constructor(message: string, status: number | null, options?: ErrorOptions) {
    super(message, options)
    this.status = status
  }
}

/**
 * No response came: the request may or may not have been carried out. Every request may be repeated, except those that
 * create a turn or a session.
 */
export class NoAnswer extends GatewayError {
  override name = 'NoAnswer'

  constructor(message: string, options?: ErrorOptions) {
    super(message, null, options)
  }
}

/** The response is a proxy's page, a redirect, or has a body that cannot be decoded. */
export class UnexpectedAnswer extends GatewayError {
  override name = 'UnexpectedAnswer'

  constructor(status: number, fault: string, options?: ErrorOptions) {
    super(`${status}: ${fault}`, status, options)
  }
}

/** What to do about the most frequent problems, by code. docs/api.md has the same for all. */
const ADVICE: Record<string, string> = {
  unauthenticated: 'Pass a valid token.',
  forbidden: 'Use a token whose grant allows this.',
  origin_not_allowed: 'Name the origin of the page in GATEWAY_CORS_ORIGINS.',
  host_not_allowed: 'Name the host in GATEWAY_HOSTS.',
  not_found: 'Check the URL of the gateway, which is http://host:port.',
  project_not_found: 'Check the name; the first write creates the project.',
  file_not_found: 'Check the path; the first write creates the file.',
  file_deleted: 'Restore a version of the file, or create it anew.',
  version_ahead: 'The gateway was restored to an earlier state: read the file again.',
  precondition_failed: 'Read the file again and redo the change, or use `edit`.',
  edit_not_applicable: 'Read the text again and correct the edit.',
  not_a_text: 'Name the root that is a text.',
  rate_limited: 'Send fewer requests, and try again later.',
  quota_exceeded: 'Delete files of the project, or raise its limit.',
  storage_full: "Free space on the gateway's disk.",
  storage_unavailable: 'Try again in a moment.',
  overloaded: 'Try again in a moment.',
  shutting_down: 'Try again in a moment.'
}

/**
 * The gateway refused the request. `code` names the reason, `problem` is the whole problem document. The message
 * includes advice.
 */
export class ProblemAnswer extends GatewayError {
  override name = 'ProblemAnswer'
  /** The problem document of the response. */
  readonly problem: ProblemDetails

  constructor(problem: ProblemDetails) {
    const said = `${problem.title} (${problem.code}): ${problem.detail}`
    const advice = ADVICE[problem.code]
    super(advice === undefined ? said : `${said.replace(/\.$/, '')}. ${advice}`, problem.status)
    this.problem = problem
  }

  /** With 503 and 507: the gateway guarantees that nothing was stored. */
  get certain(): boolean {
    return this.problem.certain === true
  }

  get code(): ProblemCode | (string & {}) {
    return this.problem.code
  }
}

/** The update builds on content that the gateway lacks: send the difference from `stateVector`. */
export class MissingPredecessors extends ProblemAnswer {
  override name = 'MissingPredecessors'

  /** The gateway's state vector. */
  get stateVector(): Uint8Array {
    return fromBase64Url(this.problem.state_vector ?? '')
  }
}

/** The root is not a text, or does not exist although other roots do: see `roots`. */
export class NotAText extends ProblemAnswer {
  override name = 'NotAText'

  /** The kind of each non-empty root by name: text, array, map or xml. */
  get roots(): Record<string, string> {
    return this.problem.roots ?? {}
  }
}

/** The error for a problem. */
export function problemFrom(details: ProblemDetails): ProblemAnswer {
  if (details.code === 'missing_predecessors') return new MissingPredecessors(details)
  return details.code === 'not_a_text' ? new NotAText(details) : new ProblemAnswer(details)
}

/** Whether an error is a problem with one of these codes. */
export function isProblem(error: unknown, ...codes: ProblemCode[]): error is ProblemAnswer {
  return error instanceof ProblemAnswer && (codes as string[]).includes(error.code)
}
