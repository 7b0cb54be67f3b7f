"""The GraphQL face: shows domain values as GraphQL types and turns inputs into requests. No rules, no queries.

One module per capability holds its types, inputs, queries, mutations and subscriptions; the rest is shared: context,
scalars, refusals, relay, the request path and the websocket.
"""
