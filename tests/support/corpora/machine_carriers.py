"""What programs print and take that holds a value: `@` in each is the value."""

from __future__ import annotations

ASSIGNED_ADDRESSES = (
    "DB_HOST=@",
    'host = "@"',
    "export IP=@",
    "client=@ status=200",
    "GET /lookup?ip=@&full=1",
    "shop.acme-prod.io: A record -> @",
    "'host' => '@'",
    "clientIp=@",
    "ansible_host=@",
    "X=@",
    "<td>@</td>",
    "if peer == '@':",
)
