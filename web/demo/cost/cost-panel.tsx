import { useSyncExternalStore } from 'react'
import type { ProviderTransport } from '../../src/provider/index.js'
import { useProjectFiles } from '../files/project-files.js'
import { sizeText } from '../shell/format.js'
import { How } from '../shell/how.js'
import { type Cost, useComparison, useFileSize } from './comparison.js'
import { Plot } from './plot.js'
import type { Exchange, Traffic } from './traffic.js'

interface CostPanelProps {
  traffic: Traffic
  /** The path of the open file. */
  path: string | null
  transport: ProviderTransport
}

/** Shows the traffic that keeps this page up to date. The panel itself sends no request. */
export function CostPanel({ traffic, path, transport }: CostPanelProps) {
  const { exchanges, unchanged } = useSyncExternalStore(traffic.subscribe, traffic.snapshot)
  const { files } = useProjectFiles()
  const points = useComparison(traffic, files, useFileSize(path, transport, files))
  const latest = points.at(-1)
  return (
    <section className="pane cost" aria-labelledby="cost-title">
      <div className="bar">
        <h2 id="cost-title">Cost</h2>
        {latest !== undefined && <span className="soft">{durationText(latest.seconds)}</span>}
        <span className="space" />
        <How what="ask cheaply" curl={CURL} ts={TS} />
      </div>
      <Plot points={points} />
      <table className="figures">
        <thead>
          <tr>
            <th scope="col">
              <span className="hidden">Client</span>
            </th>
            <th scope="col">requests</th>
            <th scope="col">bytes</th>
          </tr>
        </thead>
        <tbody>
          <Row kind="here" name="This page" cost={latest?.here} />
          <Row kind="there" name="Refetching each second" cost={latest?.there} />
        </tbody>
      </table>
      <details>
        <summary>Latest requests{unchanged > 0 && `, ${unchanged} without news`}</summary>
        <p className="soft">
          This page is counted: bodies before compression, and the messages of WebSockets. The other client is reckoned:
          once a second it fetches what is shown, whole: the list of files, the open file and the turn. The sample agent
          is a client of its own.
        </p>
        {/* biome-ignore lint/a11y/noNoninteractiveTabindex: so that the keyboard can scroll it */}
        <section className="exchanges" tabIndex={0} aria-label="Latest requests">
          <table>
            <tbody>
              {exchanges.map((exchange) => (
                <ExchangeRow key={exchange.id} exchange={exchange} />
              ))}
            </tbody>
          </table>
        </section>
      </details>
    </section>
  )
}

function Row({ kind, name, cost }: { kind: 'here' | 'there'; name: string; cost: Cost | undefined }) {
  return (
    <tr className={kind}>
      <th scope="row">{name}</th>
      <td>{cost === undefined ? '–' : cost.requests.toLocaleString('en')}</td>
      <td>{cost === undefined ? '–' : sizeText(cost.bytes)}</td>
    </tr>
  )
}

function ExchangeRow({ exchange: { method, path, status, bytes } }: { exchange: Exchange }) {
  return (
    <tr className={kindOf(status)}>
      <td>{method}</td>
      <td>
        <code>{path}</code>
      </td>
      <td>{status ?? '…'}</td>
      <td>{sizeText(bytes)}</td>
    </tr>
  )
}

function kindOf(status: Exchange['status']): 'open' | 'failed' | 'quiet' | 'done' {
  if (status === null || status === 101) return 'open'
  if (status === 'lost' || (status !== 'aborted' && status >= 400)) return 'failed'
  return status === 200 || status === 201 ? 'done' : 'quiet'
}

function durationText(seconds: number): string {
  return seconds < 60 ? `in ${seconds} s` : `in ${Math.floor(seconds / 60)} min ${seconds % 60} s`
}

const CURL = `curl -s --json '{"wait": 50}' $P/files/status # held until a file changes
curl -si $P/changes # with its ETag as If-None-Match: 304`
const TS = `const poller = new DocumentPoller(project, null, (changes) => console.log(changes), { transport: 'auto' })
// one event stream for the project; increments of a file, never the whole
const { update } = await project.readUpdate('notes.md', { fromVersion: 41 })`
