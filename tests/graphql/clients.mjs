// Stock clients of GraphQL follow the files of a project: node clients.mjs URL PROJECT CLIENT. Prints each result as a
// line of JSON, beginning with what is there; ends at the file `end.md`.
import { ApolloClient, gql, HttpLink, InMemoryCache } from '@apollo/client'
import { GraphQLWsLink } from '@apollo/client/link/subscriptions'
import { cacheExchange, createClient as createUrqlClient, fetchExchange, subscriptionExchange } from '@urql/core'
import { createClient as createSseClient } from 'graphql-sse'
import { createClient as createWsClient } from 'graphql-ws'
import WebSocket from 'ws'

const [, , gateway, project, client] = process.argv
const url = `${gateway}/api/graphql`
const webSocketUrl = url.replace('http', 'ws')

const QUERY = `query ($p: String!) { project(id: $p) { cursor files { files { path version } } } }`
const SUBSCRIPTION = `subscription ($p: String!, $since: String) {
  changes(project: $p, since: $since) { cursor changes { ... on FileChange { path version text } } }
}`
const MUTATION = `mutation ($p: String!) {
  putText(project: $p, path: "by-${client}.md", text: "from ${client}") { version }
}`

const openWebSocket = () => createWsClient({ url: webSocketUrl, webSocketImpl: WebSocket, retryAttempts: 5 })

const clients = {
  'graphql-ws': () => {
    const socket = openWebSocket()
    const first = async (query) => (await socket.iterate({ query, variables: { p: project } }).next()).value
    return {
      query: () => first(QUERY),
      mutate: () => first(MUTATION),
      follow: (variables, sink) => socket.subscribe({ query: SUBSCRIPTION, variables }, sink),
      close: () => socket.dispose()
    }
  },
  'graphql-sse': () => {
    const events = createSseClient({ url, retryAttempts: 5 })
    const first = async (query) => (await events.iterate({ query, variables: { p: project } }).next()).value
    return {
      query: () => first(QUERY),
      mutate: () => first(MUTATION),
      follow: (variables, sink) => events.subscribe({ query: SUBSCRIPTION, variables }, sink),
      close: () => events.dispose()
    }
  },
  urql: () => {
    const socket = openWebSocket()
    const urql = createUrqlClient({
      url,
      preferGetMethod: false,
      exchanges: [
        cacheExchange,
        fetchExchange,
        subscriptionExchange({
          forwardSubscription: (request) => ({
            subscribe: (sink) => ({ unsubscribe: socket.subscribe({ ...request, query: request.query ?? '' }, sink) })
          })
        })
      ]
    })
    return {
      query: () => urql.query(QUERY, { p: project }).toPromise(),
      mutate: () => urql.mutation(MUTATION, { p: project }).toPromise(),
      follow: (variables, sink) => urql.subscription(SUBSCRIPTION, variables).subscribe((result) => sink.next(result)).unsubscribe,
      close: () => socket.dispose()
    }
  },
  apollo: () => {
    const socket = openWebSocket()
    const cache = () => new InMemoryCache()
    const http = new ApolloClient({ link: new HttpLink({ uri: url }), cache: cache() })
    const live = new ApolloClient({ link: new GraphQLWsLink(socket), cache: cache() })
    return {
      query: () => http.query({ query: gql(QUERY), variables: { p: project } }),
      mutate: () => http.mutate({ mutation: gql(MUTATION), variables: { p: project } }),
      follow: (variables, sink) => {
        const following = live.subscribe({ query: gql(SUBSCRIPTION), variables }).subscribe(sink)
        return () => following.unsubscribe()
      },
      close: () => socket.dispose()
    }
  }
}

const say = (what, result) => {
  if (result.error || result.errors) throw new Error(JSON.stringify(result))
  console.log(JSON.stringify({ [what]: result.data }))
}

const asking = clients[client]()
const found = await asking.query()
say('query', found)
say('mutation', await asking.mutate())
await new Promise((resolve, reject) => {
  const stop = asking.follow(
    { p: project, since: found.data.project.cursor },
    {
      next: (result) => {
        say('changes', result)
        if (result.data.changes.changes.some((change) => change.path === 'end.md')) resolve()
      },
      error: reject,
      complete: () => {}
    }
  )
  void stop
})
asking.close()
process.exit(0)
