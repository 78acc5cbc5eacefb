/** The requests on one project: files, changes, history and sessions. */

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

/** A status question about many files. With neither `since` nor `versions`, all existing files are reported. */
export interface StatusQuestion {
  /** The files to check. Default: all files of the project. */
  paths?: readonly string[] | null
  /** The cursor up to which the client has followed the project. */
  since?: string | null
  /** The client's version of each file, 0 for none. Takes precedence over `since` for the files that it names. */
  versions?: Record<string, number> | null
}

/** The conditions of a write. */
export interface WriteOptions extends RequestOptions {
  /** Write only if this entity tag names the current state of the file. */
  ifMatch?: string | null
  /** Write only if the file does not exist. */
  create?: boolean
  /** Write only to this incarnation of the file. */
  incarnation?: string | null
}

/** Options of text differences. */
export interface TextOptions {
  /** The name of the text root; default `content`. */
  root?: string
  /** The limit for all differences together; entries beyond it have no difference. */
  maxBytes?: number
}

/** Selects the root and the version to read. */
export interface ReadTextOptions extends RequestOptions {
  root?: string
  atVersion?: number
}

/** The rich-text schemas that the gateway supports. */
export type RichTextSchema = 'tiptap' | 'prosemirror' | 'blocknote'

/** The version that an edit is based on. */
export interface BaseVersion {
  /**
   * The version that the text is based on; later edits of others are kept. 0 (only `putText`): only if the file does
   * not exist.
   */
  baseVersion?: number
}

/** A changed file with the update that the client is missing. */
export interface SyncChange extends FileChange {
  update?: Uint8Array
  /** The version that `update` builds on; 0 if `update` is the whole document. */
  from_version?: number
}

/** The result of a push and a pull. */
export interface SyncAnswer extends Omit<StatusAnswer, 'changes'> {
  /** By file: the receipt, or the problem with its update (not thrown). */
  results: Record<string, Receipt | ProblemAnswer>
  changes: SyncChange[]
  /** True if `maxBytes` was reached: continue from `cursor`. */
  more: boolean
}

/**
 * All requests on a project. Created by `GatewayClient.project`. Every method throws GatewayError; an invalid name is
 * refused before anything is sent.
 */
export class Project extends SessionRequests {
  readonly name: string

  constructor(client: Sender, name: string) {
    super(client, projectPath(name))
    this.name = name
  }

  /** The URL of the project. */
  get url(): string {
    return this.client.url + this.path
  }

  // Files and changes

  /** List a page of the existing files, ordered by path; null if `tag` names the current state. */
  async listFiles({
    tag,
    signal,
    ...params
  }: PageOptions & { prefix?: string; tag?: string | null } = {}): Promise<WithETag<FileListing | null>> {
    const request = { ...given(signal), headers: { 'If-None-Match': quoted(tag) }, params: { ...params } }
    return decodedWithETagIfChanged(await this.client.send('GET', `${this.path}/files`, request))
  }

  /** List all existing files, fetching every page. */
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

  /** List a page of the deleted files that can be restored; null if `tag` names the current state. */
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

  /** List all deleted files that can be restored, fetching every page. */
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

  /** Return which of many files changed since a cursor, or are not at the given versions. */
  async status({
    signal,
    wait = 0,
    ...question
  }: StatusQuestion & Omit<HeldOptions, 'tag'> = {}): Promise<WithETag<StatusAnswer>> {
    checkQuestion(question)
    const request = { ...given(signal), wait, headers: JSON_BODY, body: JSON.stringify({ ...question, wait }) }
    return decodedWithETag(await this.client.send('POST', `${this.path}/files/status`, request))
  }

  /** Return a section of the change feed; null if `tag` names the current state. */
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

  /** Return a section of the change feed, each file with the difference of its text, each turn with its prompt. */
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
   * Follow the change feed forever, by server-sent events or long polls.
   *
   * After every transient failure the feed resumes at the cursor of the last answer that the caller consumed. Throws
   * permanent errors, and the reason of `signal`.
   */
  follow(options: FollowOptions = {}): AsyncGenerator<FeedAnswer, never> {
    return follow(this.client, `${this.path}/changes`, options)
  }

  // One file

  /**
   * Read a file as a Yjs update: the whole file, the increments after a version, what the replica with a state vector
   * is missing, or the file as of a version.
   */
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

  /** Read the text of a root of a file; the default root is `content`. */
  async readText(path: string, options: ReadTextOptions = {}): Promise<WithETag<string>> {
    return this.readAs('text', path, options)
  }

  /** Read the rich text of a file as Markdown; without `root` that of the only root that has any. */
  async readMarkdown(path: string, options: ReadTextOptions = {}): Promise<WithETag<string>> {
    return this.readAs('markdown', path, options)
  }

  /** Read the rich text of a file as HTML without active content. */
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

  /** Read all roots of a file as JSON. */
  async readJson(
    path: string,
    { atVersion, ...options }: RequestOptions & { atVersion?: number } = {}
  ): Promise<WithETag<Record<string, unknown>>> {
    const params = { format: 'json', at_version: atVersion }
    return decodedWithETag(await this.client.send('GET', this.file(path), { ...options, params }))
  }

  /** Append a Yjs update (v1) to a file. The first write creates the file. */
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
   * Read the text of a file, change it and write it back, as the smallest edit of what was read. Concurrent edits of
   * others are kept. If the version that was read is gone by then, because the file was deleted or its history was
   * squashed, the text is read and changed again.
   *
   * @param change called with the text; returns the new text. It may be called several times, and may be async.
   * @throws ProblemAnswer `file_not_found` or `file_deleted` if the file does not exist.
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
   * Replace the rich text of a file by the smallest edit of its blocks, as `putText` does with text. `schema` is the
   * schema of a document whose content does not tell it. Throws ProblemAnswer `unsupported_schema` if the edit would
   * change what Markdown cannot hold.
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
   * `edit_not_applicable` if one of the edits does not apply.
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

  /** Move a file to another path. */
  async move(from: string, to: string, options: RequestOptions = {}): Promise<WithETag<Receipt>> {
    const body = JSON.stringify({ from: checkedPath(from), to: checkedPath(to) })
    return this.write('POST', `${this.path}/files/move`, options, JSON_BODY, { body })
  }

  /** Push updates and pull missing ones of many files in one round trip. */
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

  // Presence

  /** Return the clients present in a file; null if `tag` names the current state. */
  async presence(path: string, { tag, wait, signal }: HeldOptions = {}): Promise<WithETag<PresenceAnswer | null>> {
    const request = { ...given(signal), wait, headers: { 'If-None-Match': quoted(tag) }, params: { wait } }
    return decodedWithETagIfChanged(await this.client.send('GET', this.present(path), request))
  }

  /** Announce a client in a file for `ttl` seconds; returns the clients present. */
  async putPresence(
    path: string,
    clientId: number,
    state: Record<string, unknown>,
    { ttl, clock, signal }: RequestOptions & { ttl?: number; clock?: number } = {}
  ): Promise<WithETag<PresenceAnswer>> {
    const request = { ...given(signal), headers: JSON_BODY, body: JSON.stringify({ state, ttl, clock }) }
    return decodedWithETag(await this.client.send('PUT', `${this.present(path)}/${clientId}`, request))
  }

  /** Withdraw a client from a file. */
  async deletePresence(
    path: string,
    clientId: number,
    options: RequestOptions & { keepalive?: boolean } = {}
  ): Promise<void> {
    await this.client.send('DELETE', `${this.present(path)}/${clientId}`, options)
  }

  // History

  /**
   * List a page of versions, newest first. `groupS` groups consecutive versions of one author that are at most this
   * many seconds apart.
   */
  async history(
    path: string,
    { before, limit, groupS, ...options }: RequestOptions & { before?: number; limit?: number; groupS?: number } = {}
  ): Promise<History> {
    const params = { before, limit, group: groupS }
    return decoded(await this.client.send('GET', this.past(path), { ...options, params }))
  }

  /** Return the changes of the text between two versions as a unified diff. */
  async unifiedDiff(
    path: string,
    older: number,
    newer: number,
    { root, ...options }: RequestOptions & { root?: string } = {}
  ): Promise<string> {
    const params = { diff: `${older}..${newer}`, root }
    return (await this.client.send('GET', this.past(path), { ...options, params })).text()
  }

  /** Return the changes of the text between two versions as edits. */
  async textDifference(
    path: string,
    older: number,
    newer: number,
    { root, ...options }: RequestOptions & { root?: string } = {}
  ): Promise<TextDifference> {
    const params = { diff: `${older}..${newer}`, format: 'json', root }
    return decoded(await this.client.send('GET', this.past(path), { ...options, params }))
  }

  /** Restore the content of an earlier version, as a new version. */
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

/** Check the paths of a question. Throws ProblemAnswer `invalid_path`. */
function checkQuestion({ paths, versions }: StatusQuestion): void {
  for (const path of [...(paths ?? []), ...Object.keys(versions ?? {})]) checkedPath(path)
}

function conditional({ ifMatch, create, incarnation }: WriteOptions): Record<string, string | null | undefined> {
  return { 'If-Match': quoted(ifMatch), 'If-None-Match': create ? '*' : null, 'X-Incarnation': incarnation }
}

/** The bytes as a body. Bytes in shared memory are copied, because `fetch` refuses them. */
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
