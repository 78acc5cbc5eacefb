import { useEffect, useId, useState } from 'react'
import type { Project } from '../../src/index.js'
import { useGateway } from '../../src/react/index.js'
import { failureText } from '../shell/failure.js'
import { How } from '../shell/how.js'
import { Icon } from '../shell/icon.js'

const WORKER = 'service-worker.js'
const KEY = 'yjs-gateway push'

/** Turns push messages of the project on or off, or shows why they are not available. */
export function Bell() {
  const { project } = useGateway()
  const id = useId()
  const [isOn, setOn] = useState(() => localStorage.getItem(`${KEY} ${project.name}`) !== null)
  const [isBusy, setBusy] = useState(false)
  const [problem, setProblem] = useState<string | null>(null)
  const obstacle = obstacleText()
  useOpening()
  const toggle = async () => {
    setBusy(true)
    setProblem(null)
    try {
      await (isOn ? disable(project) : enable(project))
      setOn(!isOn)
    } catch (error) {
      setProblem(refusalText(error))
    } finally {
      setBusy(false)
    }
  }
  const name = isOn ? 'Notifications are on' : 'Notifications are off'
  return (
    <>
      <button type="button" className="quiet" popoverTarget={id} aria-label={name} title={name} data-on={isOn}>
        <Icon name={isOn ? 'bellOn' : 'bell'} />
      </button>
      <div id={id} popover="auto" className="sheet small" role="dialog" aria-label="Notifications">
        <h2>Notifications</h2>
        <p>
          When an agent has finished a turn, or a file changes while this page is closed, your browser tells you. The
          message is encrypted; nothing but this gateway and your browser's push service is involved.
        </p>
        {obstacle !== null && <p className="notice">{obstacle}</p>}
        {problem !== null && (
          <p role="alert" className="notice bad">
            {problem}
          </p>
        )}
        <div className="bar end">
          <How what="have a browser told" curl={CURL} ts={TS} />
          <span className="space" />
          <button
            type="button"
            className="main"
            disabled={isBusy || (obstacle !== null && !isOn)}
            onClick={() => void toggle()}
          >
            {isBusy ? 'One moment…' : isOn ? 'Turn off' : 'Turn on'}
          </button>
        </div>
      </div>
    </>
  )
}

async function enable(project: Project): Promise<void> {
  const { enablePush } = await import('../../src/push/index.js')
  await navigator.serviceWorker.register(WORKER, { type: 'module' })
  if ((await Notification.requestPermission()) !== 'granted') throw new DOMException('', 'NotAllowedError')
  await enablePush(project)
  localStorage.setItem(`${KEY} ${project.name}`, 'on')
}

async function disable(project: Project): Promise<void> {
  localStorage.removeItem(`${KEY} ${project.name}`)
  const registration = await navigator.serviceWorker.getRegistration()
  if (registration === undefined || (await registration.pushManager.getSubscription()) === null) return
  const { enablePush } = await import('../../src/push/index.js')
  await (await enablePush(project, { registration })).disable()
}

/** Why push messages are not available; null if they are. */
function obstacleText(): string | null {
  if (!isSecureContext) {
    return 'Not here: browsers allow notifications only on pages that came over HTTPS, or from this machine (localhost).'
  }
  if (!('serviceWorker' in navigator))
    return 'Not here: this browser window has no service workers. Is it a private one?'
  if (!('PushManager' in window) || !('Notification' in window)) {
    return 'Not here: this browser has no Web Push. On an iPhone, add the page to the home screen first.'
  }
  if (Notification.permission === 'denied') {
    return 'You have forbidden notifications of this page. Allow them in the settings of the site, beside its address.'
  }
  return null
}

function refusalText(error: unknown): string {
  if (!(error instanceof DOMException)) return failureText(error)
  if (error.name === 'NotAllowedError') return 'The browser was not allowed to show notifications.'
  if (error.name === 'AbortError') return `The push service of the browser could not be reached: ${error.message}`
  return error.message
}

/** Handle a click on a notification: open its file in this page. */
function useOpening(): void {
  const { manager } = useGateway()
  useEffect(() => {
    const told = ({ data }: MessageEvent) => {
      if (data?.type === 'yjs-gateway') manager.touch()
    }
    navigator.serviceWorker?.addEventListener('message', told)
    return () => navigator.serviceWorker?.removeEventListener('message', told)
  }, [manager])
}

const CURL = `curl -s ${location.origin}/api/push/key
curl -X PUT --json '{"subscription": …, "filter": {"turns": "finished"}}' $P/push/$CLIENT`
const TS = `import { enablePush } from 'yjs-gateway/push' // and in the service worker: handlePush()
const { client, disable } = await enablePush(project, { filter: { turns: 'finished' } })
await disable()`
