/** Requests for sessions and turns, which record what a coding agent does. */

import { uuidv4 } from 'lib0/random'
import { decoded, decodedWithETagIfChanged, quoted, type WithETag } from './answers.js'
import { encodedId } from './names.js'
import { given, type RequestOptions, type Sender } from './request.js'
import { type FollowTurnOptions, followTurn, type TurnEvent } from './turn-events.js'
import type {
  BlocksReceipt,
  BlockType,
  OutputReceipt,
  Session,
  SessionListing,
  TurnAnswer,
  TurnListing,
  TurnState,
  TurnStatus,
  TurnSummary
} from './wire.js'

/** The options of a piece of an agent's output. */
export interface OutputOptions {
  /** The position of the piece in bytes of the whole output; makes the request idempotent. */
  offset?: number
  /** The format of the output. Default: `auto`, which detects the format from the first line. */
  dialect?: 'auto' | 'claude' | 'codex' | 'acp' | 'gemini' | 'text'
  /** Whether the output ends here. If omitted, a result ends the turn after a grace period. */
  final?: boolean
}

const JSON_BODY = { 'Content-Type': 'application/json' }
const NDJSON_BODY = { 'Content-Type': 'application/x-ndjson' }

/** Selects a page of a list. */
export interface PageOptions extends RequestOptions {
  limit?: number
  /** The `next` of the previous page. */
  after?: string | null
}

/** The options of a read that may be conditional and may wait. */
export interface HeldOptions extends RequestOptions {
  /** Seconds to wait for a newer state; at most 60. */
  wait?: number
  /** The entity tag of the state that the client has. */
  tag?: string | null
}

/** The session requests of a project. Every method throws GatewayError. */
export class SessionRequests {
  constructor(
    readonly client: Sender,
    readonly path: string
  ) {}

  /** Create a session. */
  async createSession(title?: string | null, options: RequestOptions = {}): Promise<Session> {
    return this.post('/sessions', { title: title ?? null }, options)
  }

  /** List a page of sessions, newest first. */
  async listSessions({ signal, ...params }: PageOptions = {}): Promise<SessionListing> {
    return decoded(await this.client.send('GET', `${this.path}/sessions`, { ...given(signal), params: { ...params } }))
  }

  /** Read a session. */
  async readSession(session: string, options: RequestOptions = {}): Promise<Session> {
    return decoded(await this.client.send('GET', this.path + sessionPath(session), options))
  }

  /** Create a pending turn. */
  async createTurn(session: string, prompt: string, options: RequestOptions = {}): Promise<TurnAnswer> {
    return this.post(`${sessionPath(session)}/turns`, { prompt }, options)
  }

  /** List a page of turns, newest first. */
  async listTurns(session: string, { signal, ...params }: PageOptions = {}): Promise<TurnListing> {
    const path = `${this.path}${sessionPath(session)}/turns`
    return decoded(await this.client.send('GET', path, { ...given(signal), params: { ...params } }))
  }

  /** Read a turn without its first `afterBlock` blocks; null if `tag` names the current state. */
  async readTurn(
    session: string,
    turn: string,
    { afterBlock, ...options }: HeldOptions & { afterBlock?: number } = {}
  ): Promise<WithETag<TurnAnswer | null>> {
    return this.held(turnPath(session, turn), options, { after_block: afterBlock || null })
  }

  /** Read the brief state that tells whether a turn has changed; null if `tag` names the current state. */
  async turnStatus(session: string, turn: string, options: HeldOptions = {}): Promise<WithETag<TurnState | null>> {
    return this.held(`${turnPath(session, turn)}/status`, options, {})
  }

  /**
   * Follow a turn to its end: blocks as they come, what is added to their texts, and the status. After a transient
   * failure the stream resumes, and nothing is yielded twice. The last event has the final status. Permanent errors are
   * thrown.
   */
  async *followTurn(session: string, turn: string, options: FollowTurnOptions = {}): AsyncGenerator<TurnEvent, void> {
    yield* followTurn(this.client, `${this.path}${turnPath(session, turn)}/events`, options)
  }

  /** Change the status of a turn. Repeating the request is refused: if the response was lost, read the turn. */
  async setTurnStatus(
    session: string,
    turn: string,
    status: TurnStatus,
    { error, ...options }: RequestOptions & { error?: string } = {}
  ): Promise<TurnSummary> {
    return this.post(turnPath(session, turn), { status, ...(error === undefined ? {} : { error }) }, options, 'PATCH')
  }

  /** Append blocks. With `firstIndex` the request is idempotent. */
  async appendBlocks(
    session: string,
    turn: string,
    blocks: readonly { type: BlockType; content: unknown }[],
    { firstIndex, ...options }: RequestOptions & { firstIndex?: number } = {}
  ): Promise<BlocksReceipt> {
    const body = { blocks, ...(firstIndex === undefined ? {} : { first_index: firstIndex }) }
    return this.post(`${turnPath(session, turn)}/blocks`, body, options)
  }

  /** Append output of an agent, complete or streamed. With `offset` the request is idempotent. */
  async appendOutput(
    session: string,
    turn: string,
    output: BodyInit,
    { offset, dialect, final, ...options }: RequestOptions & OutputOptions = {}
  ): Promise<OutputReceipt> {
    const params = { offset, dialect, final: final === undefined ? undefined : String(final) }
    const request = { ...options, headers: NDJSON_BODY, params, body: output }
    return decoded(await this.client.send('POST', `${this.path}${turnPath(session, turn)}/output`, request))
  }

  private async post<T>(path: string, body: unknown, options: RequestOptions, method = 'POST'): Promise<T> {
    const once = method === 'POST' ? { 'Idempotency-Key': uuidv4() } : {}
    const request = {
      ...options,
      headers: { ...JSON_BODY, ...once },
      body: JSON.stringify(body),
      repeatable: method === 'POST'
    }
    return decoded(await this.client.send(method, this.path + path, request))
  }

  private async held<T>(
    path: string,
    { wait, tag, ...options }: HeldOptions,
    params: Record<string, number | null>
  ): Promise<WithETag<T | null>> {
    const request = { ...options, wait, headers: { 'If-None-Match': quoted(tag) }, params: { ...params, wait } }
    return decodedWithETagIfChanged(await this.client.send('GET', this.path + path, request))
  }
}

function sessionPath(session: string): string {
  return `/sessions/${encodedId(session, 'session')}`
}

function turnPath(session: string, turn: string): string {
  return `${sessionPath(session)}/turns/${encodedId(turn, 'turn')}`
}
