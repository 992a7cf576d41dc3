R91
-

:path/v1/completions

x-request-idrZ97
3

:status200
!
content-typetext/event-stream