// GraphiQL on the gateway's own /api/graphql: queries and mutations by HTTP, subscriptions by WebSocket.
import { createGraphiQLFetcher } from '@graphiql/toolkit'
import { setNonce } from 'get-nonce'
import { GraphiQL } from 'graphiql'
import { createRoot } from 'react-dom/client'
import 'graphiql/graphiql.css'
import './page.css'

const EXAMPLE = `# The files of a project. A gateway that asks for credentials takes yours from
# the tab Headers: {"Authorization": "Bearer …"}
query Files($project: String = "demo") {
  project(id: $project) {
    cursor
    files {
      files {
        path
        version
      }
    }
  }
}

# Something is sent only when a selected field has changed.
subscription Changes($project: String = "demo") {
  changes(project: $project) {
    cursor
    changes {
      ... on FileChange {
        path
        version
        text
      }
      ... on TurnChange {
        turnId
        status
      }
    }
  }
}
`

// Dialogs keep the page from scrolling by a style sheet of their own.
setNonce(document.querySelector<HTMLMetaElement>('meta[property="csp-nonce"]')?.nonce ?? '')
const endpoint = new URL('api/graphql', document.baseURI).href
const fetcher = createGraphiQLFetcher({ url: endpoint, subscriptionUrl: endpoint.replace(/^http/, 'ws') })
const root = document.getElementById('root')
if (root !== null) {
  createRoot(root).render(<GraphiQL defaultQuery={EXAMPLE} fetcher={fetcher} shouldPersistHeaders={false} />)
}
