R7/
-

:path/v1/completions

x-request-idrZ"
half75
3

:status200
!
content-typetext/event-stream*
timeout
"
late