/** A page with the AI SDK's own `useChat`, which follows a turn; it contains no code of this package. */
import { useChat } from '@ai-sdk/react'
import { DefaultChatTransport } from 'ai'
import { createRoot } from 'react-dom/client'

const turn = new URLSearchParams(location.search).get('turn') ?? ''

function Chat() {
  const { messages, status, error } = useChat({
    id: turn,
    resume: true,
    transport: new DefaultChatTransport({
      prepareReconnectToStreamRequest: () => ({ api: `${turn}/events?format=ai-sdk` })
    })
  })
  return (
    <main data-status={status} data-error={error?.message ?? ''} data-messages={messages.length}>
      {messages.map((message) => (
        <pre key={message.id} id="parts">
          {JSON.stringify(message.parts)}
        </pre>
      ))}
    </main>
  )
}

createRoot(document.body.appendChild(document.createElement('div'))).render(<Chat />)
