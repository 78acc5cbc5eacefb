import { decoded, errorFrom } from './answers.js'
import { NoAnswer } from './errors.js'
import { projectPath } from './names.js'
import { Project } from './project.js'
import { type GatewayRequest, given, type RequestOptions, type Sender } from './request.js'
import type { PageOptions } from './sessions.js'
import { type Token, TokenSource } from './token.js'
import type { Health, ProjectListing } from './wire.js'

/** The options of a client; all are optional. */
export interface GatewayClientOptions {
  /**
   * Sent as `Authorization: Bearer`. A function is called before the first request, before a JSON Web Token expires,
   * and when the gateway has refused the token.
   */
  token?: Token
  /** The author of writes in the history. A proxy may override it. */
  author?: string
  /** Sent with every request. A function is called for each request, so that credentials can change. */
  headers?: Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>)
  /** Whether cookies are sent to other origins. */
  credentials?: RequestCredentials
  /** Milliseconds within which a response must arrive, in addition to the requested wait; 30,000 by default. */
  timeoutMs?: number
  /** The function that sends requests; the global `fetch` by default. */
  fetch?: typeof fetch
}

/** A client of a gateway. Works on every platform with `fetch`: browsers, Node.js and workers. */
export class GatewayClient implements Sender {
  readonly url: string
  private readonly source: TokenSource | null

  /** @param url the base URL of the gateway, such as `https://host`; in a browser, `''` is the origin of the page. */
  constructor(
    url: string,
    private readonly options: GatewayClientOptions = {}
  ) {
    this.url = url.replace(/\/+$/, '')
    this.source = options.token === undefined ? null : new TokenSource(options.token)
  }

  /** The requests on a project. Sends no request itself. Throws ProblemAnswer `invalid_project`. */
  project(name: string): Project {
    return new Project(this, name)
  }

  /** List a page of the projects that the token may read, ordered by id. */
  async listProjects({ signal, ...params }: PageOptions = {}): Promise<ProjectListing> {
    return decoded(await this.send('GET', '/api/projects', { ...given(signal), params: { ...params } }))
  }

  /** Erase a project permanently, including its history. Requires a token with scope `admin` in the project. */
  async deleteProject(name: string, options?: RequestOptions): Promise<void> {
    await this.send('DELETE', projectPath(name), options)
  }

  /** Liveness: whether the process responds. */
  async healthz(options?: RequestOptions): Promise<Health> {
    return decoded(await this.send('GET', '/healthz', options))
  }

  /** Readiness: whether the database responds as well. */
  async readyz(options?: RequestOptions): Promise<Health> {
    return decoded(await this.send('GET', '/readyz', options))
  }

  /** The metrics in Prometheus text format. */
  async metrics(options?: RequestOptions): Promise<string> {
    return (await this.send('GET', '/metrics', options)).text()
  }

  /** The OpenAPI description of the API. */
  async openapi(options?: RequestOptions): Promise<Record<string, unknown>> {
    return decoded(await this.send('GET', '/openapi.json', options))
  }

  /**
   * Send a request and read the whole response: a success or a 304.
   *
   * @throws NoAnswer, UnexpectedAnswer, ProblemAnswer
   */
  async send(method: string, path: string, request: GatewayRequest = {}): Promise<Response> {
    const limit = AbortSignal.timeout((this.options.timeoutMs ?? 30_000) + (request.wait ?? 0) * 1000)
    const answer = await this.fetch(method, path, request, limit).catch((error: unknown) => {
      if (!request.repeatable || !(error instanceof NoAnswer) || limit.aborted) throw error
      return this.fetch(method, path, request, limit)
    })
    try {
      // Read the body here, so that a truncated body fails this request.
      const body = [204, 304].includes(answer.status) ? null : await answer.arrayBuffer()
      return new Response(body, { status: answer.status, headers: answer.headers })
    } catch (error) {
      throw this.noAnswer(method, path, request, error)
    }
  }

  /** Open a streaming response to a GET request. The reader must apply its own time limit. */
  open(path: string, request: GatewayRequest): Promise<Response> {
    return this.fetch('GET', path, request)
  }

  async token(refused: string | null = null): Promise<string | null> {
    if (this.source === null) return null
    return refused === null ? this.source.usable() : this.source.otherThan(refused)
  }

  private async fetch(method: string, path: string, request: GatewayRequest, limit?: AbortSignal): Promise<Response> {
    let token = this.source?.current ?? null // no await: the page may be about to unload
    if (token === null && this.source !== null) {
      token = await this.source.usable().catch((error) => {
        throw this.noAnswer(method, path, request, error)
      })
    }
    let answer = await this.fetchWith(token, method, path, request, limit)
    if (answer.status === 401 && token !== null && !(request.body instanceof ReadableStream)) {
      const another = await this.token(token).catch((error) => {
        throw this.noAnswer(method, path, request, error)
      })
      if (another !== token) answer = await this.fetchWith(another, method, path, request, limit)
    }
    if (!answer.ok && answer.status !== 304) throw await errorFrom(answer)
    return answer
  }

  private async fetchWith(
    token: string | null,
    method: string,
    path: string,
    request: GatewayRequest,
    limit: AbortSignal | undefined
  ): Promise<Response> {
    const { headers, credentials } = this.options
    const given = typeof headers === 'function' ? await headers() : headers
    const signals = [request.signal, limit].filter((signal) => signal !== undefined)
    try {
      return await (this.options.fetch ?? fetch)(`${this.url}${path}${query(request.params)}`, {
        method,
        headers: present({ ...this.credentials(token), ...given, ...request.headers }),
        body: request.body ?? null,
        signal: signals.length > 0 ? AbortSignal.any(signals) : null,
        cache: 'no-store',
        ...(credentials === undefined ? {} : { credentials }),
        ...(request.keepalive ? { keepalive: true } : {}),
        ...(request.body instanceof ReadableStream ? { duplex: 'half' } : {})
      })
    } catch (error) {
      throw this.noAnswer(method, path, request, error)
    }
  }

  private credentials(token: string | null): Record<string, string | undefined> {
    return {
      Authorization: token === null ? undefined : `Bearer ${token}`,
      'X-Author': this.options.author?.replace(NOT_LATIN1, '?')
    }
  }

  private noAnswer(method: string, path: string, request: GatewayRequest, error: unknown): unknown {
    if (request.signal?.aborted) return request.signal.reason
    return new NoAnswer(`${method} ${this.url}${path}: ${reasonOf(error, this.url)}`, { cause: error })
  }
}

/** Why a request got no response: the innermost cause, which in Node.js names the fault of the operating system. */
function reasonOf(error: unknown, url: string): string {
  if (error instanceof TypeError && isOfAnotherOrigin(url)) {
    return `it cannot be reached, or does not allow the origin ${location.origin} (GATEWAY_CORS_ORIGINS)`
  }
  let cause = error
  while (cause instanceof Error) {
    const inner = cause instanceof AggregateError ? cause.errors[0] : cause.cause
    if (!(inner instanceof Error)) return cause.message
    cause = inner
  }
  return String(cause)
}

/** Whether a page asks a gateway of another origin: the browser does not tell the page why it gets no response. */
function isOfAnotherOrigin(url: string): boolean {
  if (typeof location === 'undefined' || !URL.canParse(url, location.href)) return false
  return new URL(url, location.href).origin !== location.origin
}

/** The characters that a header cannot carry. */
const NOT_LATIN1 = /[^\x20-\xff]/g

function query(params: GatewayRequest['params']): string {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(params ?? {})) {
    if (value == null) continue
    for (const each of Array.isArray(value) ? value : [value]) search.append(name, String(each))
  }
  return search.size > 0 ? `?${search}` : ''
}

function present(headers: Record<string, string | null | undefined>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter((header): header is [string, string] => header[1] != null))
}
