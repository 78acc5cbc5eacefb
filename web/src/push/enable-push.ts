/** Push messages for a page: report changes of a project to this browser while the page is closed. */
import { decoded } from '../answers.js'
import type { Project } from '../project.js'
import { deleteState, type PushFilter, type PushState, readState, stateKey, writeState } from './state.js'

/** The options of a subscription; all are optional. */
export interface EnablePushOptions {
  /** Selects what is reported. Default: finished turns and changed files. */
  filter?: PushFilter
  /** A file is reported after this many seconds without a change; default 30. */
  quietSeconds?: number
  /** The cursor up to which the page has followed the project. Default: the current position. */
  since?: string
  /** The registration of the service worker. Default: the registration of the page. */
  registration?: ServiceWorkerRegistration
}

/** An enabled subscription to push messages. */
export interface EnabledPush {
  /** The id of this browser: while an event stream with this id as `client` is open, no push messages are sent. */
  client: string
  /** Disable the push messages. */
  disable(): Promise<void>
}

/**
 * Subscribe this browser to the changes of a project. The page must have a service worker that calls `handlePush`. The
 * browser asks the user for permission, so call this function from a click handler.
 *
 * @throws GatewayError, and the errors of `pushManager.subscribe`: `NotAllowedError` if the user denies permission.
 */
export async function enablePush(project: Project, options: EnablePushOptions = {}): Promise<EnabledPush> {
  const registration = options.registration ?? (await navigator.serviceWorker.ready)
  const { key } = await decoded<{ key: string }>(await project.client.send('GET', '/api/push/key'))
  const subscribe = () => registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key })
  const subscription = await subscribe().catch(async (error) => {
    // There may already be a subscription with another key.
    if (!(error instanceof DOMException) || error.name !== 'InvalidStateError') throw error
    await (await registration.pushManager.getSubscription())?.unsubscribe()
    return subscribe()
  })
  const name = stateKey(project.client.url, project.name)
  const known = await readState(name)
  const state: PushState = {
    key: name,
    url: project.client.url,
    project: project.name,
    client: known?.client ?? crypto.randomUUID(),
    filter: options.filter ?? { turns: 'finished' },
    ...(options.quietSeconds === undefined ? {} : { quietSeconds: options.quietSeconds }),
    cursor: options.since ?? known?.cursor ?? null,
    versions: known?.versions ?? {}
  }
  const { cursor } = await putSubscription(project, state, subscription, options.since)
  await writeState({ ...state, cursor: state.cursor ?? cursor })
  return {
    client: state.client,
    async disable() {
      await project.client.send('DELETE', `${project.path}/push/${state.client}`)
      await deleteState(name)
      await subscription.unsubscribe()
    }
  }
}

/** Register the subscription of this browser with the gateway. */
export async function putSubscription(
  project: Project,
  { client, filter, quietSeconds }: PushState,
  subscription: PushSubscription,
  since?: string
): Promise<{ cursor: string }> {
  const body = JSON.stringify({ subscription: subscription.toJSON(), filter, quiet_seconds: quietSeconds, since })
  const headers = { 'Content-Type': 'application/json' }
  return decoded(await project.client.send('PUT', `${project.path}/push/${client}`, { headers, body }))
}
