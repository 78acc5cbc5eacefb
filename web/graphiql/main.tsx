// GraphiQL for /api/graphql: queries and mutations over HTTP, subscriptions over WebSocket.
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

// Dialogs disable scrolling of the page with their own style sheet, which needs the nonce.
setNonce(document.querySelector<HTMLMetaElement>('meta[property="csp-nonce"]')?.nonce ?? '')
const endpoint = new URL('api/graphql', document.baseURI).href
const fetcher = createGraphiQLFetcher({ url: endpoint, subscriptionUrl: endpoint.replace(/^http/, 'ws') })
const root = document.getElementById('root')
if (root !== null) {
  createRoot(root).render(<GraphiQL defaultQuery={EXAMPLE} fetcher={fetcher} shouldPersistHeaders={false} />)
}
