import type { CSSProperties } from 'react'
import type { ProviderTransport } from '../../src/provider/index.js'
import { Bell } from '../away/bell.js'
import { Palette } from '../files/palette.js'
import { rename, useName } from '../people/identity.js'
import { colorOf } from '../people/person.js'
import { addressOf, PROJECT_NAME } from './address.js'
import { Icon } from './icon.js'

const TRANSPORTS: Record<ProviderTransport, string> = {
  auto: 'Automatic',
  sse: 'Server-sent events',
  'long-poll': 'Long polling',
  poll: 'Polling',
  websocket: 'WebSocket'
}

interface HeaderProps {
  path: string | null
  transport: ProviderTransport
  onTransport(transport: ProviderTransport): void
  onOpen(path: string): void
}

/** The project, the visitor's name, and the transport. */
export function Header({ path, transport, onTransport, onOpen }: HeaderProps) {
  return (
    <header>
      <h1>
        <Logo />
        <span>yjs-gateway</span>
      </h1>
      <form method="get" action="." className="project">
        <input
          name="project"
          aria-label="Project"
          title="Project: Enter opens another one"
          defaultValue={PROJECT_NAME}
          pattern="[A-Za-z0-9._~\-]+"
          required
        />
      </form>
      <Palette onOpen={onOpen} />
      <span className="space" />
      <label className="transport">
        <span aria-hidden="true">Transport</span>
        <select
          aria-label="Transport"
          value={transport}
          onChange={(event) => onTransport(event.target.value as ProviderTransport)}
        >
          {Object.entries(TRANSPORTS).map(([value, name]) => (
            <option key={value} value={value}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <OwnName />
      <a
        className="button"
        href={addressOf(path)}
        target="_blank"
        rel="noopener"
        title="Put both side by side, and type"
      >
        <Icon name="window" />
        <span>Open a second window</span>
      </a>
      <Bell />
    </header>
  )
}

function OwnName() {
  const name = useName()
  return (
    <label
      className="own-name"
      title="Your name, as others see it"
      style={{ '--color': colorOf(name) } as CSSProperties}
    >
      <span className="dot" aria-hidden="true" />
      <input
        key={name}
        aria-label="Your name"
        defaultValue={name}
        maxLength={40}
        size={Math.max(name.length, 6)}
        onBlur={(event) => rename(event.target.value)}
        onKeyDown={(event) => event.key === 'Enter' && event.currentTarget.blur()}
      />
    </label>
  )
}

function Logo() {
  return (
    <svg className="logo" viewBox="0 0 24 24" aria-hidden="true">
      <path d="M4 5l6 7v7M20 5l-6 7v7M10 12h4" />
    </svg>
  )
}
