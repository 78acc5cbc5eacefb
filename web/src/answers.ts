/** Reading an answer: its body, its tag and hints, or the error that it is thrown as. */
import { type GatewayError, problemFrom, UnexpectedAnswer } from './errors.js'
import type { ProblemDetails } from './wire.js'

const OWN_TAG = /^(?:W\/)?"([0-9a-z]+(?:\.[0-9]+){1,2}(?:\.[jt])?)(?![0-9A-Za-z.])/

/** An answer about something that has states, with the name of the state. */
export interface WithETag<T> {
  value: T
  /** What `tag` and `ifMatch` of other requests take. */
  tag: string | null
  /** The gateway asks not to be polled sooner. */
  backoffS: number | null
}

/** A file, or what was added to it. */
export interface FileContent {
  /** A Yjs update (v1); null: nothing is new. */
  update: Uint8Array | null
  version: number
  /** The version that `update` builds on; 0: it is the whole document. */
  fromVersion: number
  /** The life of the file that the answer is about. */
  incarnation: string
  tag: string
  backoffS: number | null
}

/** What an answer that is no success is thrown as. */
export async function errorFrom(answer: Response): Promise<GatewayError> {
  const details = (answer.headers.get('content-type') ?? '').startsWith('application/problem+json')
    ? await answer.json().catch(() => null)
    : null
  await answer.body?.cancel().catch(() => undefined)
  const error: GatewayError = isProblemDetails(details)
    ? problemFrom(details)
    : new UnexpectedAnswer(answer.status, `${answer.statusText} (it is no problem of the gateway)`)
  error.retryAfterS = seconds(answer, 'Retry-After')
  error.backoffS = seconds(answer, 'Backoff')
  return error
}

function isProblemDetails(value: unknown): value is ProblemDetails {
  const details = value as Partial<ProblemDetails> | null
  return typeof details?.code === 'string' && typeof details.status === 'number'
}

/** A header in seconds; null if it is not there, or is a date (RFC 9110 §10.2.3), which the gateway's never is. */
function seconds(answer: Response, header: string): number | null {
  const text = answer.headers.get(header) ?? ''
  return /^\d+$/.test(text) ? Number(text) : null
}

/** The body of an answer. Throws UnexpectedAnswer. */
export async function decoded<T>(answer: Response): Promise<T> {
  const text = await answer.text()
  try {
    return JSON.parse(text) as T
  } catch (error) {
    throw new UnexpectedAnswer(answer.status, 'it is no JSON', { cause: error })
  }
}

/** The body of an answer, with its tag. */
export async function decodedWithETag<T>(answer: Response): Promise<WithETag<T>> {
  return withETag(answer, await decoded<T>(answer))
}

/** The same where the state may be the one that was named: then the value is null. */
export async function decodedWithETagIfChanged<T>(answer: Response): Promise<WithETag<T | null>> {
  return withETag(answer, answer.status === 304 ? null : await decoded<T>(answer))
}

/** A value, with the tag of the answer that brought it. */
export function withETag<T>(answer: Response, value: T): WithETag<T> {
  return { value, tag: tagOf(answer), backoffS: seconds(answer, 'Backoff') }
}

/** The tag of an answer as the gateway made it, without quotes: compression weakens it, and proxies mark it. */
function tagOf(answer: Response): string | null {
  return OWN_TAG.exec(answer.headers.get('ETag') ?? '')?.[1] ?? null
}

/** The life of the file that a tag is of. */
export function incarnationOf(tag: string): string {
  return tag.slice(0, tag.indexOf('.'))
}

/** A tag as headers have it. */
export function quoted(tag: string | null | undefined): string | null {
  return tag == null ? null : tag === '*' ? '*' : `"${tag}"`
}

/** A file as update. Throws UnexpectedAnswer. */
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
