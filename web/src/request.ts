/** Requests, and what sends them: what `GatewayClient` and the parts that it is made of agree on. */

/** What may be said of any request. */
export interface RequestOptions {
  /** Ends the request; it then throws the signal's reason. */
  signal?: AbortSignal
}

/** A request as the client sends it: what is null or undefined is left out. */
export interface GatewayRequest extends RequestOptions {
  headers?: Record<string, string | null | undefined>
  params?: Record<string, string | number | readonly string[] | null | undefined>
  body?: BodyInit | null
  /** How many seconds the gateway may hold it. */
  wait?: number | undefined
  /** Whether to send it again, once and at once, where no answer came: it does no harm. */
  repeatable?: boolean | undefined
  /** Whether the page may go away meanwhile (at most 64 KiB). */
  keepalive?: boolean | undefined
}

/** What sends requests: `GatewayClient`. */
export interface Sender {
  /** Where the gateway is, without a slash at the end. */
  readonly url: string

  /**
   * Send a request and read the answer, which is a success or a 304.
   *
   * @throws NoAnswer, UnexpectedAnswer, ProblemAnswer
   */
  send(method: string, path: string, request?: GatewayRequest): Promise<Response>

  /** GET an answer without end; whoever reads it limits its time. */
  open(path: string, request: GatewayRequest): Promise<Response>

  /**
   * The token for what no request of this client carries, such as a WebSocket; null where there is none.
   *
   * @param refused the one that the gateway did not accept: another one is asked for, where there may be one.
   */
  token?(refused?: string | null): Promise<string | null>
}

/** A signal that may not be there, as a member that may not be there. */
export function given(signal: AbortSignal | undefined): RequestOptions {
  return signal === undefined ? {} : { signal }
}
