import { useEffect, useState, useSyncExternalStore } from 'react'
import type { PollContext } from '../src/index.js'
import { useGateway } from '../src/react/index.js'
import { sizeText } from './format.js'
import type { Exchange, Traffic } from './traffic.js'

/** What polling costs, as it happens; and how many wait on the gateway. */
export function TrafficPanel({ traffic }: { traffic: Traffic }) {
  const { requests, unchanged, bytes, exchanges } = useSyncExternalStore(traffic.subscribe, traffic.snapshot)
  const { gateway_waiters: waiters, gateway_hot_documents: documents } = useGauges()
  return (
    <section className="traffic" aria-labelledby="traffic-title">
      <h2 id="traffic-title">Traffic</h2>
      <dl>
        <Figure name="Requests" value={requests} />
        <Figure name="Unchanged" value={unchanged} />
        <Figure name="Received" value={sizeText(bytes)} />
        <Figure name="Waiters" value={waiters ?? '–'} />
        <Figure name="Open documents" value={documents ?? '–'} />
      </dl>
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
    </section>
  )
}

function Figure({ name, value }: { name: string; value: string | number }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  )
}

function ExchangeRow({ exchange: { method, path, status, bytes } }: { exchange: Exchange }) {
  const kind = kindOf(status)
  return (
    <tr className={kind}>
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
  if (status === null) return 'open'
  if (status === 'lost' || (status !== 'aborted' && status >= 400)) return 'failed'
  return status === 200 || status === 201 ? 'done' : 'quiet'
}

/** Figures of the gateway, asked for by the manager that everything is polled by. */
function useGauges(): Record<string, number> {
  const { client, manager } = useGateway()
  const [gauges, setGauges] = useState<Record<string, number>>({})
  useEffect(() => {
    const poll = async ({ cursor, signal }: PollContext) => {
      const lines = (await client.metrics({ signal }))
        .split('\n')
        .filter((line) => /^gateway_(waiters|hot_doc\w+s) /.test(line))
      const value = Object.fromEntries(lines.map((line) => gauge(line)))
      return { value, changed: lines.join() !== cursor, cursor: lines.join() }
    }
    const subscription = manager.register('metrics', poll, 10_000, {
      onResult: setGauges,
      onError: () => setGauges({})
    })
    return () => subscription.unregister()
  }, [client, manager])
  return gauges
}

/** A line of Prometheus' format. */
function gauge(line: string): [string, number] {
  const [name = '', value] = line.split(' ')
  return [name, Number(value)]
}
