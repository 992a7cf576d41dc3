R7/
-

:path/v1/completions

x-request-idrZ "
{"model":"m","prompt":"p"}75
3

:status200
!
content-typetext/event-stream*
x