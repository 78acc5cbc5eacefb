/** Decoding of responses: the body, the entity tag and the hints, or the error to throw. */
import { type GatewayError, problemFrom, UnexpectedAnswer } from './errors.js'
import type { ProblemDetails } from './wire.js'

const OWN_TAG = /^(?:W\/)?"([0-9a-z]+(?:\.[0-9]+){1,2}(?:\.[jt])?)(?![0-9A-Za-z.])/

/** A decoded response with its entity tag, which names the state that the response describes. */
export interface WithETag<T> {
  value: T
  /** Accepted by `tag` and `ifMatch` of other requests. Null if the response has no tag. */
  tag: string | null
  /** The gateway asks not to be polled again within this many seconds. */
  backoffS: number | null
}

/** The content of a file, or an increment of it. */
export interface FileContent {
  /** A Yjs update (v1); null if there is nothing new. */
  update: Uint8Array | null
  version: number
  /** The version that `update` builds on; 0 if `update` is the whole document. */
  fromVersion: number
  /** The incarnation of the file that the response describes. */
  incarnation: string
  tag: string
  backoffS: number | null
}

/** The error for an unsuccessful response. */
export async function errorFrom(answer: Response): Promise<GatewayError> {
  const details = (answer.headers.get('content-type') ?? '').startsWith('application/problem+json')
    ? await answer.json().catch(() => null)
    : null
  await answer.body?.cancel().catch(() => undefined)
  const error: GatewayError = isProblemDetails(details)
    ? problemFrom(details)
    : new UnexpectedAnswer(answer.status, `${answer.statusText}; what answers at ${answer.url} is no yjs-gateway`)
  error.retryAfterS = seconds(answer, 'Retry-After')
  error.backoffS = seconds(answer, 'Backoff')
  return error
}

function isProblemDetails(value: unknown): value is ProblemDetails {
  const details = value as Partial<ProblemDetails> | null
  return typeof details?.code === 'string' && typeof details.status === 'number'
}

/** A header in seconds; null if it is missing or a date (RFC 9110 §10.2.3), which the gateway never sends. */
function seconds(answer: Response, header: string): number | null {
  const text = answer.headers.get(header) ?? ''
  return /^\d+$/.test(text) ? Number(text) : null
}

/** Decode the body of a response. Throws UnexpectedAnswer. */
export async function decoded<T>(answer: Response): Promise<T> {
  const text = await answer.text()
  try {
    return JSON.parse(text) as T
  } catch (error) {
    const isJson = (answer.headers.get('content-type') ?? '').startsWith('application/json')
    const fault = isJson ? 'it is no JSON' : 'what answers is no yjs-gateway'
    throw new UnexpectedAnswer(answer.status, fault, { cause: error })
  }
}

/** Decode the body of a response, with its entity tag. Throws UnexpectedAnswer. */
export async function decodedWithETag<T>(answer: Response): Promise<WithETag<T>> {
  return withETag(answer, await decoded<T>(answer))
}

/** Decode the body of a response to a conditional request, with its entity tag; the value is null for a 304. */
export async function decodedWithETagIfChanged<T>(answer: Response): Promise<WithETag<T | null>> {
  return withETag(answer, answer.status === 304 ? null : await decoded<T>(answer))
}

/** A value with the entity tag and the hints of its response. */
export function withETag<T>(answer: Response, value: T): WithETag<T> {
  return { value, tag: tagOf(answer), backoffS: seconds(answer, 'Backoff') }
}

/** The entity tag as the gateway made it, unquoted: compression weakens tags, and proxies add marks. */
function tagOf(answer: Response): string | null {
  return OWN_TAG.exec(answer.headers.get('ETag') ?? '')?.[1] ?? null
}

/** The incarnation that an entity tag belongs to. */
export function incarnationOf(tag: string): string {
  return tag.slice(0, tag.indexOf('.'))
}

/** Quote an entity tag for a header. */
export function quoted(tag: string | null | undefined): string | null {
  return tag == null ? null : tag === '*' ? '*' : `"${tag}"`
}

/** Decode a response that holds a file as a Yjs update. Throws UnexpectedAnswer. */
export async function fileContent(answer: Response): Promise<FileContent> {
  const version = Number(answer.headers.get('X-Version') ?? Number.NaN)
  const fromVersion = Number(answer.headers.get('X-From-Version') ?? Number.NaN)
  const incarnation = answer.headers.get('X-Incarnation')
  if (Number.isNaN(version) || Number.isNaN(fromVersion) || incarnation === null) {
    throw new UnexpectedAnswer(answer.status, 'the headers of a file are not there (are they exposed by CORS?)')
  }
  return {
    update: answer.status === 200 ? new Uint8Array(await answer.arrayBuffer()) : null,
    version,
    fromVersion,
    incarnation,
    tag: tagOf(answer) ?? `${incarnation}.${version}`,
    backoffS: seconds(answer, 'Backoff')
  }
}
