<?php
// A one-call gRPC worker: it answers with its context and the message it got.

require __DIR__ . '/../apps/one_call.php';

serve(function (array $call, string $body): void {
    if ($body === 'fail') {
        write_frame(0x40, [], '5|:|not in PHP');
        return;
    }
    $context = json_encode(['headers' => json_encode(['x-mode' => getenv('RR_MODE')])]);
    write_frame(0x08, [strlen($context)], $context . "{$call['service']}/{$call['method']} {$body}");
});
