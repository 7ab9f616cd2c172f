<?php
// A one-call worker that sleeps for ?seconds= before it answers.

require __DIR__ . '/one_call.php';

serve(function (array $request, string $body): void {
    parse_str(parse_url($request['uri'], PHP_URL_QUERY) ?? '', $query);
    usleep((int) (1e6 * (float) ($query['seconds'] ?? 0)));
    $context = json_encode(['status' => 200, 'headers' => ['Content-Type' => ['text/plain']]]);
    write_frame(0x08, [strlen($context)], $context . "slept\n");
});
