export {
  HttpProvider,
  type HttpProviderConfiguration,
  type HttpProviderEvents,
  type HttpProviderOptions,
  type ProviderTransport
} from './http-provider.js'
export type { Closed, CloseReason, ConnectionStatus } from './transport.js'
