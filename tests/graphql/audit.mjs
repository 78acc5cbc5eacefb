// Runs the public audit suite of GraphQL over HTTP on a gateway: node audit.mjs URL; prints each audit's verdict as JSON.
import { auditServer } from 'graphql-http'

const results = await auditServer({ url: process.argv[2] })
console.log(JSON.stringify(results.map(({ id, name, status, reason }) => ({ id, name, status, reason }))))
