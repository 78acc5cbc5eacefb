/** Push messages for a page: what happens in a project reaches this browser while the page is closed. */
import { decoded } from '../answers.js'
import type { Project } from '../project.js'
import { deleteState, type PushFilter, type PushState, readState, stateKey, writeState } from './state.js'

export interface EnablePushOptions {
  /** What is told; left out: that turns have ended, and which files changed. */
  filter?: PushFilter
  /** Files are told after so many seconds without a change of them; 30 unless said. */
  quietSeconds?: number
  /** The cursor that the page has followed up to; left out: from now on. */
  since?: string
  /** Where the service worker is registered; left out: that of the page. */
  registration?: ServiceWorkerRegistration
}

/** Push messages that are on. */
export interface EnabledPush {
  /** The id of this browser: an event stream that names it as `client` needs no push messages while it is open. */
  client: string
  /** Turn them off. */
  disable(): Promise<void>
}

/**
 * Have this browser told what happens in a project. The page has a service worker that calls `handlePush`; the user is
 * asked for permission, so call it from a click.
 *
 * @throws GatewayError, and what `pushManager.subscribe` throws: `NotAllowedError` where the user says no.
 */
export async function enablePush(project: Project, options: EnablePushOptions = {}): Promise<EnabledPush> {
  const registration = options.registration ?? (await navigator.serviceWorker.ready)
  const { key } = await decoded<{ key: string }>(await project.client.send('GET', '/api/push/key'))
  const subscribe = () => registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key })
  const subscription = await subscribe().catch(async (error) => {
    // The subscription that is there may be one for another key.
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

/** Tell the gateway where this browser is reached. */
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
