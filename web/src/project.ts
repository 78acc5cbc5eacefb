/** One project: its files, its changes, its past, its sessions. */

import {
  decoded,
  decodedWithETag,
  decodedWithETagIfChanged,
  type FileContent,
  fileContent,
  quoted,
  type WithETag,
  withETag
} from './answers.js'
import { fromBase64, toBase64, toBase64Url } from './base64.js'
import { isProblem, type ProblemAnswer, problemFrom, UnexpectedAnswer } from './errors.js'
import { type FeedFilter, type FollowOptions, feedParams, follow } from './feed.js'
import { checkedPath, encodedPath, projectPath } from './names.js'
import { type GatewayRequest, given, type RequestOptions, type Sender } from './request.js'
import { type HeldOptions, type PageOptions, SessionRequests } from './sessions.js'
import type {
  DeletedFile,
  DeletedListing,
  FeedAnswer,
  FileChange,
  FileEntry,
  FileListing,
  History,
  PresenceAnswer,
  ProblemDetails,
  Receipt,
  RequestedEdit,
  StatusAnswer,
  TextDifference
} from './wire.js'

const EDIT_ATTEMPTS = 5
const JSON_BODY = { 'Content-Type': 'application/json' }
const UPDATE_BODY = { 'Content-Type': 'application/octet-stream' }
const MARKDOWN_BODY = { 'Content-Type': 'text/markdown; charset=utf-8' }
const TEXT_BODY = { 'Content-Type': 'text/plain; charset=utf-8' }

/** What a client has, and what it asks about. With neither `since` nor `versions` all that exists is new to it. */
export interface StatusQuestion {
  /** The files asked about; left out: the whole project. */
  paths?: readonly string[] | null
  /** What the client has followed so far. */
  since?: string | null
  /** The version that the client has of each file, 0 for none. Beats `since` for the files it names. */
  versions?: Record<string, number> | null
}

/** Under which conditions a write is to happen. */
export interface WriteOptions extends RequestOptions {
  /** Only if the file is in the state of this tag. */
  ifMatch?: string | null
  /** Only if there is no such file. */
  create?: boolean
  /** Only in this life of the file. */
  incarnation?: string | null
}

/** What changed, as text. */
export interface TextOptions {
  /** The name of the text, `content` unless said. */
  root?: string
  /** Of all differences together; past it an entry has none. */
  maxBytes?: number
}

/** Which text of a file is read, and of which version. */
export interface ReadTextOptions extends RequestOptions {
  root?: string
  atVersion?: number
}

/** The schemas of rich text that the gateway knows. */
export type RichTextSchema = 'tiptap' | 'prosemirror' | 'blocknote'

/** Which version an edit was made of. */
export interface BaseVersion {
  /** What others have written since this version stays. 0 (of `putText`): only if there is no such file. */
  baseVersion?: number
}

/** A changed file, with what the client lacks of it. */
export interface SyncChange extends FileChange {
  update?: Uint8Array
  /** The version that `update` builds on; 0: it is the whole document. */
  from_version?: number
}

/** What became of a push and a pull. */
export interface SyncAnswer extends Omit<StatusAnswer, 'changes'> {
  /** By file a receipt, or the problem that its update met (not thrown). */
  results: Record<string, Receipt | ProblemAnswer>
  changes: SyncChange[]
  /** True where `maxBytes` was reached: ask again from `cursor`. */
  more: boolean
}

/**
 * All requests on a project. Made by `GatewayClient.project`. Every method throws GatewayError; a name that is not valid
 * is refused before anything is sent.
 */
export class Project extends SessionRequests {
  readonly name: string

  constructor(client: Sender, name: string) {
    super(client, projectPath(name))
    this.name = name
  }

  /** Where the project is. */
  get url(): string {
    return this.client.url + this.path
  }

  // Which files there are, and which have changed

  /** A page of the files that exist, by path; null if `tag` names the present state. */
  async listFiles({
    tag,
    signal,
    ...params
  }: PageOptions & { prefix?: string; tag?: string | null } = {}): Promise<WithETag<FileListing | null>> {
    const request = { ...given(signal), headers: { 'If-None-Match': quoted(tag) }, params: { ...params } }
    return decodedWithETagIfChanged(await this.client.send('GET', `${this.path}/files`, request))
  }

  /** The files that exist, page by page until the last one. */
  async allFiles({ prefix = '', ...options }: RequestOptions & { prefix?: string } = {}): Promise<FileEntry[]> {
    const files: FileEntry[] = []
    let after: string | null = null
    do {
      const page: FileListing | null = (await this.listFiles({ ...options, prefix, after })).value
      files.push(...(page?.files ?? []))
      after = page?.next ?? null
    } while (after !== null)
    return files
  }

  /** A page of the files that were deleted and can be restored; null if `tag` names the present state. */
  async listDeleted({
    tag,
    signal,
    ...params
  }: PageOptions & { prefix?: string; tag?: string | null } = {}): Promise<WithETag<DeletedListing | null>> {
    const request = {
      ...given(signal),
      headers: { 'If-None-Match': quoted(tag) },
      params: { ...params, deleted: 'true' }
    }
    return decodedWithETagIfChanged(await this.client.send('GET', `${this.path}/files`, request))
  }

  /** The files that were deleted and can be restored, page by page until the last one. */
  async allDeleted({ prefix = '', ...options }: RequestOptions & { prefix?: string } = {}): Promise<DeletedFile[]> {
    const files: DeletedFile[] = []
    let after: string | null = null
    do {
      const page: DeletedListing | null = (await this.listDeleted({ ...options, prefix, after })).value
      files.push(...(page?.files ?? []))
      after = page?.next ?? null
    } while (after !== null)
    return files
  }

  /** Which of many files changed since a cursor, or are not at these versions. */
  async status({
    signal,
    wait = 0,
    ...question
  }: StatusQuestion & Omit<HeldOptions, 'tag'> = {}): Promise<WithETag<StatusAnswer>> {
    checkQuestion(question)
    const request = { ...given(signal), wait, headers: JSON_BODY, body: JSON.stringify({ ...question, wait }) }
    return decodedWithETag(await this.client.send('POST', `${this.path}/files/status`, request))
  }

  /** A stretch of the change feed; null if `tag` names the present state. */
  async changes({
    since,
    limit,
    wait,
    tag,
    signal,
    ...filter
  }: FeedFilter & HeldOptions & { since?: string | null; limit?: number } = {}): Promise<WithETag<FeedAnswer | null>> {
    const params = { ...feedParams(filter), since, limit, wait }
    const request = { ...given(signal), wait, headers: { 'If-None-Match': quoted(tag) }, params }
    return decodedWithETagIfChanged(await this.client.send('GET', `${this.path}/changes`, request))
  }

  /** A stretch of the change feed, each file with what changed in its text (of a root), each turn with its prompt. */
  async changesAsText({
    since,
    limit,
    root,
    maxBytes,
    signal,
    ...filter
  }: FeedFilter & RequestOptions & TextOptions & { since?: string | null; limit?: number } = {}): Promise<FeedAnswer> {
    const params = { ...feedParams(filter), since, limit, diff: 'text', root, max_bytes: maxBytes }
    return decoded(await this.client.send('GET', `${this.path}/changes`, { ...given(signal), params }))
  }

  /**
   * The change feed without end, by server-sent events or long polls.
   *
   * It goes on after every failure that may pass, from the cursor of the last answer that the caller has taken. Throws
   * what does not pass, and the reason of `signal`.
   */
  follow(options: FollowOptions = {}): AsyncGenerator<FeedAnswer, never> {
    return follow(this.client, `${this.path}/changes`, options)
  }

  // One file

  /** A file as a Yjs update: whole, what later versions added, what a state vector lacks, or as it was. */
  async readUpdate(
    path: string,
    {
      fromVersion,
      stateVector,
      atVersion,
      wait,
      tag,
      signal
    }: HeldOptions & { fromVersion?: number; stateVector?: Uint8Array; atVersion?: number } = {}
  ): Promise<FileContent> {
    const params = {
      from_version: fromVersion,
      state_vector: stateVector && toBase64Url(stateVector),
      at_version: atVersion,
      wait
    }
    const headers = { Accept: 'application/octet-stream', 'If-None-Match': quoted(tag) }
    return fileContent(await this.client.send('GET', this.file(path), { ...given(signal), wait, headers, params }))
  }

  /** The text of a root of a file, `content` unless said. */
  async readText(path: string, options: ReadTextOptions = {}): Promise<WithETag<string>> {
    return this.readAs('text', path, options)
  }

  /** The rich text of a file as Markdown: of `root`, or of the only root that has any. */
  async readMarkdown(path: string, options: ReadTextOptions = {}): Promise<WithETag<string>> {
    return this.readAs('markdown', path, options)
  }

  /** The rich text of a file as HTML, in which nothing runs. */
  async readHtml(path: string, options: ReadTextOptions = {}): Promise<WithETag<string>> {
    return this.readAs('html', path, options)
  }

  private async readAs(
    format: 'text' | 'markdown' | 'html',
    path: string,
    { root, atVersion, ...options }: ReadTextOptions
  ): Promise<WithETag<string>> {
    const params = { format, root, at_version: atVersion }
    const answer = await this.client.send('GET', this.file(path), { ...options, params })
    return withETag(answer, await answer.text())
  }

  /** All roots of a file as JSON. */
  async readJson(
    path: string,
    { atVersion, ...options }: RequestOptions & { atVersion?: number } = {}
  ): Promise<WithETag<Record<string, unknown>>> {
    const params = { format: 'json', at_version: atVersion }
    return decodedWithETag(await this.client.send('GET', this.file(path), { ...options, params }))
  }

  /** Merge a Yjs update (v1) into a file, which comes into being if need be. */
  async appendUpdate(
    path: string,
    update: Uint8Array,
    { keepalive, ...options }: WriteOptions & { keepalive?: boolean } = {}
  ): Promise<WithETag<Receipt>> {
    return this.write('PATCH', this.file(path), options, UPDATE_BODY, { body: bytes(update), keepalive })
  }

  /**
   * Replace the text of a file by the smallest edit. Without `baseVersion` or `ifMatch` this removes what others have
   * written since the text was read.
   */
  async putText(
    path: string,
    text: string,
    { root, baseVersion, ...options }: WriteOptions & BaseVersion & { root?: string } = {}
  ): Promise<WithETag<Receipt>> {
    const params = { root, base_version: baseVersion }
    return this.write('PUT', this.file(path), options, TEXT_BODY, { body: text, params })
  }

  /**
   * Read the text of a file, change it and write it back, as the smallest edit of what was read: what others write
   * meanwhile stays. If the version that was read is gone by then, because the file was deleted or its history was
   * squashed, the text is read and changed again.
   *
   * @param change is called with the text and gives the new one; possibly several times.
   * @throws ProblemAnswer `file_not_found` or `file_deleted` where there is no such file.
   */
  async edit(
    path: string,
    change: (text: string) => string | Promise<string>,
    { root, ...options }: RequestOptions & { root?: string } = {}
  ): Promise<WithETag<Receipt>> {
    const named = root === undefined ? options : { ...options, root }
    for (let attempt = 1; ; attempt += 1) {
      const { value, tag } = await this.readText(path, named)
      const baseVersion = versionOf(tag)
      const text = await change(value)
      try {
        return await this.putText(path, text, { ...named, baseVersion })
      } catch (error) {
        const isGone = isProblem(error, 'precondition_failed', 'version_ahead', 'file_deleted', 'write_contention')
        if (!isGone || attempt === EDIT_ATTEMPTS) throw error
      }
    }
  }

  /**
   * Replace the rich text of a file by the smallest edit of its blocks, as `putText` does with text. `schema` is that of a
   * document whose content does not tell it. Throws ProblemAnswer `unsupported_schema` where Markdown cannot hold what
   * would be edited.
   */
  async putMarkdown(
    path: string,
    markdown: string,
    {
      root,
      schema,
      baseVersion,
      ...options
    }: WriteOptions & BaseVersion & { root?: string; schema?: RichTextSchema } = {}
  ): Promise<WithETag<Receipt>> {
    const params = { root, schema, base_version: baseVersion }
    return this.write('PUT', this.file(path), options, MARKDOWN_BODY, { body: markdown, params })
  }

  /**
   * Replace parts of the text of a file, or of its rich text as Markdown (`format`), all or none. Throws ProblemAnswer
   * `edit_not_applicable` where one does not fit.
   */
  async editText(
    path: string,
    edits: RequestedEdit[],
    {
      root,
      format,
      baseVersion,
      ...options
    }: Omit<WriteOptions, 'create'> & BaseVersion & { root?: string; format?: 'text' | 'markdown' } = {}
  ): Promise<WithETag<Receipt>> {
    const body = JSON.stringify({ edits, base_version: baseVersion, root, format })
    return this.write('POST', `${this.path}/edits/${encodedPath(path)}`, options, JSON_BODY, { body })
  }

  /** Delete a file. */
  async delete(path: string, { signal, ...conditions }: Omit<WriteOptions, 'create'> = {}): Promise<void> {
    await this.client.send('DELETE', this.file(path), { ...given(signal), headers: conditional(conditions) })
  }

  /** Give a file another path. */
  async move(from: string, to: string, options: RequestOptions = {}): Promise<WithETag<Receipt>> {
    const body = JSON.stringify({ from: checkedPath(from), to: checkedPath(to) })
    return this.write('POST', `${this.path}/files/move`, options, JSON_BODY, { body })
  }

  /** Push updates and pull what is lacking, of many files in one round trip. */
  async sync(
    updates: Record<string, Uint8Array> = {},
    {
      signal,
      atomic,
      maxBytes,
      ...question
    }: StatusQuestion & RequestOptions & { atomic?: boolean; maxBytes?: number } = {}
  ): Promise<SyncAnswer> {
    checkQuestion(question)
    const pairs = Object.entries(updates).map(([path, update]) => [checkedPath(path), toBase64(update)])
    const encoded = Object.fromEntries(pairs)
    const body = JSON.stringify({ ...question, updates: encoded, atomic, max_bytes: maxBytes })
    const answer = await this.client.send('POST', `${this.path}/sync`, { ...given(signal), headers: JSON_BODY, body })
    return synced(await decoded(answer))
  }

  // Who is in a file

  /** Who is in a file; null if `tag` names the present state. */
  async presence(path: string, { tag, wait, signal }: HeldOptions = {}): Promise<WithETag<PresenceAnswer | null>> {
    const request = { ...given(signal), wait, headers: { 'If-None-Match': quoted(tag) }, params: { wait } }
    return decodedWithETagIfChanged(await this.client.send('GET', this.present(path), request))
  }

  /** Say that a client is in a file, for `ttl` seconds; returns who is. */
  async putPresence(
    path: string,
    clientId: number,
    state: Record<string, unknown>,
    { ttl, clock, signal }: RequestOptions & { ttl?: number; clock?: number } = {}
  ): Promise<WithETag<PresenceAnswer>> {
    const request = { ...given(signal), headers: JSON_BODY, body: JSON.stringify({ state, ttl, clock }) }
    return decodedWithETag(await this.client.send('PUT', `${this.present(path)}/${clientId}`, request))
  }

  /** Say that a client is not in a file any more. */
  async deletePresence(
    path: string,
    clientId: number,
    options: RequestOptions & { keepalive?: boolean } = {}
  ): Promise<void> {
    await this.client.send('DELETE', `${this.present(path)}/${clientId}`, options)
  }

  // The past

  /** A page of versions, newest first; with `groupS`, neighbours of one author within so many seconds joined. */
  async history(
    path: string,
    { before, limit, groupS, ...options }: RequestOptions & { before?: number; limit?: number; groupS?: number } = {}
  ): Promise<History> {
    const params = { before, limit, group: groupS }
    return decoded(await this.client.send('GET', this.past(path), { ...options, params }))
  }

  /** What changed in the text between two versions, for people. */
  async unifiedDiff(
    path: string,
    older: number,
    newer: number,
    { root, ...options }: RequestOptions & { root?: string } = {}
  ): Promise<string> {
    const params = { diff: `${older}..${newer}`, root }
    return (await this.client.send('GET', this.past(path), { ...options, params })).text()
  }

  /** The same as edits. */
  async textDifference(
    path: string,
    older: number,
    newer: number,
    { root, ...options }: RequestOptions & { root?: string } = {}
  ): Promise<TextDifference> {
    const params = { diff: `${older}..${newer}`, format: 'json', root }
    return decoded(await this.client.send('GET', this.past(path), { ...options, params }))
  }

  /** Make the content what it was, as a new version. */
  async restore(
    path: string,
    version: number,
    options: Omit<WriteOptions, 'create' | 'incarnation'> = {}
  ): Promise<WithETag<Receipt>> {
    const body = JSON.stringify({ version })
    return this.write('POST', `${this.past(path)}/restore`, options, JSON_BODY, { body })
  }

  private file(path: string): string {
    return `${this.path}/files/${encodedPath(path)}`
  }

  private present(path: string): string {
    return `${this.path}/presence/${encodedPath(path)}`
  }

  private past(path: string): string {
    return `${this.path}/history/${encodedPath(path)}`
  }

  private async write(
    method: string,
    path: string,
    { signal, ...conditions }: WriteOptions,
    type: Record<string, string>,
    request: GatewayRequest
  ): Promise<WithETag<Receipt>> {
    const headers = { ...type, ...conditional(conditions) }
    return decodedWithETag(await this.client.send(method, path, { ...given(signal), ...request, headers }))
  }
}

function versionOf(tag: string | null): number {
  const version = Number(tag?.split('.')[1] ?? Number.NaN)
  if (Number.isNaN(version))
    throw new UnexpectedAnswer(200, 'the tag of the file is not there (is ETag exposed by CORS?)')
  return version
}

/** Throws ProblemAnswer `invalid_path`. */
function checkQuestion({ paths, versions }: StatusQuestion): void {
  for (const path of [...(paths ?? []), ...Object.keys(versions ?? {})]) checkedPath(path)
}

function conditional({ ifMatch, create, incarnation }: WriteOptions): Record<string, string | null | undefined> {
  return { 'If-Match': quoted(ifMatch), 'If-None-Match': create ? '*' : null, 'X-Incarnation': incarnation }
}

/** Bytes as a body: not shared with other threads, which `fetch` refuses. */
function bytes(update: Uint8Array): Uint8Array<ArrayBuffer> {
  return update.buffer instanceof ArrayBuffer ? (update as Uint8Array<ArrayBuffer>) : new Uint8Array(update)
}

interface EncodedSyncAnswer extends Omit<SyncAnswer, 'results' | 'changes'> {
  results: Record<string, Receipt | ProblemDetails>
  changes: (Omit<SyncChange, 'update'> & { update?: string })[]
}

function synced(answer: EncodedSyncAnswer): SyncAnswer {
  const results = Object.entries(answer.results).map(([path, result]) => [
    path,
    'code' in result ? problemFrom(result) : result
  ])
  const changes = answer.changes.map(({ update, ...change }) =>
    update === undefined ? change : { ...change, update: fromBase64(update) }
  )
  return { ...answer, results: Object.fromEntries(results), changes }
}
