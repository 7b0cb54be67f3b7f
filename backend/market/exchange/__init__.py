"""The exchange: orders, matching, call auctions, trades and market data of instruments."""
