/** Requests on sessions and turns: what a coding agent is doing. */

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

/** What is said of a piece of an agent's output. */
export interface OutputOptions {
  /** Where the piece begins, in bytes of all output; makes a repetition harmless. */
  offset?: number
  /** How the agent tells what it does. Default: the first line that a dialect knows decides. */
  dialect?: 'auto' | 'claude' | 'codex' | 'acp' | 'gemini' | 'text'
  /** Whether the output ends here. Left out, a result ends the turn after a grace. */
  final?: boolean
}

const JSON_BODY = { 'Content-Type': 'application/json' }
const NDJSON_BODY = { 'Content-Type': 'application/x-ndjson' }

/** Which page of a list. */
export interface PageOptions extends RequestOptions {
  limit?: number
  /** The `next` of the page before. */
  after?: string | null
}

/** A read that may wait, and that may be conditional. */
export interface HeldOptions extends RequestOptions {
  /** How many seconds to wait for something newer; at most 60. */
  wait?: number
  /** The tag of the state that is known. */
  tag?: string | null
}

/** The part of a project that is about sessions. Every method throws GatewayError. */
export class SessionRequests {
  constructor(
    readonly client: Sender,
    readonly path: string
  ) {}

  /** A new session. */
  async createSession(title?: string | null, options: RequestOptions = {}): Promise<Session> {
    return this.post('/sessions', { title: title ?? null }, options)
  }

  /** A page of sessions, newest first. */
  async listSessions({ signal, ...params }: PageOptions = {}): Promise<SessionListing> {
    return decoded(await this.client.send('GET', `${this.path}/sessions`, { ...given(signal), params: { ...params } }))
  }

  /** A session. */
  async readSession(session: string, options: RequestOptions = {}): Promise<Session> {
    return decoded(await this.client.send('GET', this.path + sessionPath(session), options))
  }

  /** A new turn, pending. */
  async createTurn(session: string, prompt: string, options: RequestOptions = {}): Promise<TurnAnswer> {
    return this.post(`${sessionPath(session)}/turns`, { prompt }, options)
  }

  /** A page of turns, newest first. */
  async listTurns(session: string, { signal, ...params }: PageOptions = {}): Promise<TurnListing> {
    const path = `${this.path}${sessionPath(session)}/turns`
    return decoded(await this.client.send('GET', path, { ...given(signal), params: { ...params } }))
  }

  /** A turn without its first `afterBlock` blocks; null if `tag` names the present state. */
  async readTurn(
    session: string,
    turn: string,
    { afterBlock, ...options }: HeldOptions & { afterBlock?: number } = {}
  ): Promise<WithETag<TurnAnswer | null>> {
    return this.held(turnPath(session, turn), options, { after_block: afterBlock || null })
  }

  /** The least that tells whether to read a turn again; null if `tag` names the present state. */
  async turnStatus(session: string, turn: string, options: HeldOptions = {}): Promise<WithETag<TurnState | null>> {
    return this.held(`${turnPath(session, turn)}/status`, options, {})
  }

  /**
   * What happens in a turn, until it has ended: blocks as they come, what is added to their texts, and the status. After
   * a failure it goes on, and nothing is told twice. The last event has the final status.
   */
  async *followTurn(session: string, turn: string, options: FollowTurnOptions = {}): AsyncGenerator<TurnEvent, void> {
    yield* followTurn(this.client, `${this.path}${turnPath(session, turn)}/events`, options)
  }

  /** One step of a turn's life. A repetition is refused: where the answer was lost, read the turn. */
  async setTurnStatus(
    session: string,
    turn: string,
    status: TurnStatus,
    { error, ...options }: RequestOptions & { error?: string } = {}
  ): Promise<TurnSummary> {
    return this.post(turnPath(session, turn), { status, ...(error === undefined ? {} : { error }) }, options, 'PATCH')
  }

  /** Add blocks. With `firstIndex` it can be repeated without harm. */
  async appendBlocks(
    session: string,
    turn: string,
    blocks: readonly { type: BlockType; content: unknown }[],
    { firstIndex, ...options }: RequestOptions & { firstIndex?: number } = {}
  ): Promise<BlocksReceipt> {
    const body = { blocks, ...(firstIndex === undefined ? {} : { first_index: firstIndex }) }
    return this.post(`${turnPath(session, turn)}/blocks`, body, options)
  }

  /** What an agent prints as stream-json, whole or as it comes. With `offset` it can be repeated without harm. */
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
