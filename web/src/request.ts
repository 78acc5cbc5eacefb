/** Requests, and the interface through which they are sent; shared by `GatewayClient` and its parts. */

/** The options of every request. */
export interface RequestOptions {
  /** Aborts the request, which then throws the reason of the signal. */
  signal?: AbortSignal
}

/** A request for `Sender.send`. Headers and parameters that are null or undefined are left out. */
export interface GatewayRequest extends RequestOptions {
  headers?: Record<string, string | null | undefined>
  params?: Record<string, string | number | readonly string[] | null | undefined>
  body?: BodyInit | null
  /** Seconds for which the gateway may hold the request. */
  wait?: number | undefined
  /** Whether the request is idempotent: without a response it is sent once more, immediately. */
  repeatable?: boolean | undefined
  /** Whether the request survives the unloading of the page (at most 64 KiB). */
  keepalive?: boolean | undefined
}

/** The interface through which requests are sent; implemented by `GatewayClient`. */
export interface Sender {
  /** The base URL of the gateway, without a trailing slash. */
  readonly url: string

  /**
   * Send a request and read the whole response: a success or a 304.
   *
   * @throws NoAnswer, UnexpectedAnswer, ProblemAnswer
   */
  send(method: string, path: string, request?: GatewayRequest): Promise<Response>

  /** Open a streaming response to a GET request. The reader must apply its own time limit. */
  open(path: string, request: GatewayRequest): Promise<Response>

  /**
   * The token for a connection that this client does not make itself, such as a WebSocket; null if there is none.
   *
   * @param refused a token that the gateway refused; a new one is requested if the client has a function for it.
   */
  token?(refused?: string | null): Promise<string | null>
}

/** An optional signal as an optional member. */
export function given(signal: AbortSignal | undefined): RequestOptions {
  return signal === undefined ? {} : { signal }
}
