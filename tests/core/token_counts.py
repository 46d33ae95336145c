"""Short texts of many kinds, with their token counts by four real tokenizers.

The texts were written for this file. The counts are those of o200k_base and cl100k_base (bpe-openai 0.1.4), Tekken
(mistral-common 1.13.1, tekken_240911) and Claude 2 (tokenizer.json of anthropic 0.38.0), without special tokens. None of these
packages is needed to run the tests.
"""

# name -> (text, o200k_base, cl100k_base, Tekken, Claude 2)
TEXTS: dict[str, tuple[str, int, int, int, int]] = {
    'English prose': (
        'The harbour was quiet when the last ferry left. Nobody on the pier paid any attention to'
        ' the old man who had been sitting there since noon, a newspaper folded under his arm and'
        ' a thermos of coffee between his shoes. He had come every day for eleven years, and the '
        'people who worked in the ticket office had long stopped asking what he was waiting for. '
        'Some said that his wife had promised to come back on a Thursday; others were sure that h'
        'e simply liked the sound of the ropes against the masts. He never explained himself, and'
        ' he never complained about the weather.',
        117,
        117,
        117,
        117,
    ),
    'English chat': (
        'hey! can you summarise the attached contract for me? i need the termination clause, the '
        'notice period and anything unusual about liability. bullet points are fine. also: is cla'
        'use 7.3 enforceable in Norway? thanks :)',
        47,
        47,
        47,
        46,
    ),
    'German prose': (
        'Die Bundesregierung hat am Mittwoch einen Gesetzentwurf beschlossen, der die Genehmigung'
        'sverfahren für Windkraftanlagen deutlich beschleunigen soll. Künftig müssen die zuständi'
        'gen Behörden innerhalb von zwölf Monaten über einen vollständigen Antrag entscheiden; an'
        'dernfalls gilt die Genehmigung als erteilt. Umweltverbände begrüßten das Vorhaben grunds'
        'ätzlich, warnten jedoch vor einer Aushöhlung der Beteiligungsrechte. Der Verband der Ene'
        'rgiewirtschaft sprach von einem überfälligen Schritt, während mehrere Landkreise zusätzl'
        'iche Stellen für Sachbearbeiterinnen und Sachbearbeiter forderten.',
        119,
        160,
        126,
        180,
    ),
    'French prose': (
        'Lorsque la nuit tombait sur la vallée, les bergers rentraient leurs troupeaux et fermaie'
        "nt soigneusement les volets. Personne n'aurait osé s'aventurer au-delà du pont après le "
        "coucher du soleil : on racontait que les loups descendaient jusqu'aux premières maisons,"
        " et que le vieux moulin, abandonné depuis la guerre, s'illuminait parfois sans raison. L"
        "es enfants écoutaient ces histoires en retenant leur souffle, mêlant la peur et l'émerve"
        'illement.',
        110,
        134,
        103,
        142,
    ),
    'Spanish prose': (
        'El mercado abría antes del amanecer, cuando los pescadores volvían del puerto con las ca'
        'jas todavía mojadas. Mi abuela conocía a todos por su nombre y sabía regatear sin levant'
        'ar la voz. Compraba siempre lo mismo: dos kilos de sardinas, un manojo de perejil, limon'
        'es y un pan redondo que envolvía en un paño. Después caminábamos despacio hasta su casa,'
        ' y ella me contaba cómo había cambiado el barrio desde que era niña.',
        105,
        124,
        105,
        131,
    ),
    'Russian prose': (
        'Поезд опаздывал уже третий час, и пассажиры постепенно разбрелись по залу ожидания. Кто-'
        'то дремал на чемоданах, кто-то пил чай из бумажных стаканчиков, а маленькая девочка в кр'
        'асной шапке рисовала на запотевшем стекле дома и деревья. Дежурная по станции время от в'
        'ремени объявляла новое время прибытия, но ей давно никто не верил.',
        99,
        159,
        104,
        174,
    ),
    'Chinese prose': (
        '春天来得比往年早一些。河边的柳树已经抽出了嫩绿的新芽，孩子们脱下厚重的棉衣，在田野里追逐风筝。村里的'
        '老人坐在门口晒太阳，谈论着今年的收成和城里的新鲜事。学校放学以后，老师常常带着学生沿着小路散步，教他'
        '们辨认各种野花的名字。大家都说，这样平静的日子，是用多少钱也买不到的。',
        113,
        180,
        137,
        162,
    ),
    'Japanese prose': (
        '駅前の小さな喫茶店は、朝の七時になると必ず扉を開ける。店主の田中さんは、常連客の顔を見ただけで注文が'
        '分かるらしい。窓際の席にはいつも同じ老人が座り、新聞を広げながらゆっくりとコーヒーを飲んでいる。雨の'
        '日には学生たちが雨宿りに立ち寄り、店の中はにぎやかになる。それでも時間だけは、どこかのんびりと流れて'
        'いるように感じられる。',
        137,
        181,
        124,
        187,
    ),
    'Korean prose': (
        '할머니는 매일 아침 시장에 나가 싱싱한 채소를 고르셨다. 나는 그 옆에서 장바구니를 들고 '
        '따라다니며 상인들의 이야기를 듣는 것을 좋아했다. 비가 오는 날이면 우리는 처마 밑에서 따'
        '뜻한 국수를 먹으며 빗소리를 들었다. 지금도 그 골목을 지날 때면 그때의 냄새와 웃음소리가'
        ' 생각난다.',
        100,
        161,
        82,
        177,
    ),
    'Arabic prose': (
        'كانت المدينة القديمة تستيقظ على أصوات الباعة وهم يفتحون دكاكينهم قبل شروق الشمس. وكان جد'
        'ي يجلس كل صباح أمام المقهى، يشرب الشاي بالنعناع ويقرأ الجريدة ببطء، ثم يحكي لنا قصصا عن '
        'البحر والسفر والرجال الذين لم يعودوا أبدا.',
        72,
        157,
        65,
        193,
    ),
    'Hindi prose': (
        'गाँव के बाहर एक पुराना बरगद का पेड़ था, जिसके नीचे हर शाम लोग इकट्ठा होते थे। बच्चे खेलत'
        'े थे, बुज़ुर्ग कहानियाँ सुनाते थे और औरतें कुएँ से पानी भरकर लौटती थीं। उस पेड़ की छाया '
        'में न जाने कितने झगड़े सुलझे और कितनी दोस्तियाँ शुरू हुईं।',
        85,
        241,
        90,
        265,
    ),
    'Python': (
        'from collections import defaultdict\n'
        'from pathlib import Path\n'
        '\n'
        '\n'
        'class Inventory:\n'
        '    """Counts what is in stock and says when to order."""\n'
        '\n'
        '    def __init__(self, path: Path, *, threshold: int = 10) -> None:\n'
        '        self._path = path\n'
        '        self._threshold = threshold\n'
        '        self._items: dict[str, int] = defaultdict(int)\n'
        '\n'
        '    def add(self, name: str, amount: int = 1) -> None:\n'
        '        if amount < 0:\n'
        '            raise ValueError(f"amount={amount}: give a number of at least 0")\n'
        '        self._items[name] += amount\n'
        '\n'
        '    def missing(self) -> list[str]:\n'
        '        return sorted(name for name, count in self._items.items() if count < self._thres'
        'hold)\n',
        160,
        159,
        164,
        163,
    ),
    'TypeScript': (
        'export interface RetryOptions {\n'
        '  maxAttempts?: number;\n'
        '  baseDelayMs?: number;\n'
        '  onRetry?: (error: unknown, attempt: number) => void;\n'
        '}\n'
        '\n'
        'export async function withRetry<T>(fn: () => Promise<T>, options: RetryOptions = {}): Pr'
        'omise<T> {\n'
        '  const { maxAttempts = 3, baseDelayMs = 250, onRetry } = options;\n'
        '  for (let attempt = 1; ; attempt++) {\n'
        '    try {\n'
        '      return await fn();\n'
        '    } catch (error) {\n'
        '      if (attempt >= maxAttempts) throw error;\n'
        '      onRetry?.(error, attempt);\n'
        '      await new Promise((resolve) => setTimeout(resolve, baseDelayMs * 2 ** attempt));\n'
        '    }\n'
        '  }\n'
        '}\n',
        156,
        155,
        165,
        164,
    ),
    'SQL': (
        'SELECT c.id, c.name, COUNT(o.id) AS orders, SUM(o.total_cents) / 100.0 AS revenue\n'
        'FROM customers AS c\n'
        "LEFT JOIN orders AS o ON o.customer_id = c.id AND o.created_at >= DATE '2026-01-01'\n"
        "WHERE c.country IN ('NO', 'SE', 'DK') AND c.deleted_at IS NULL\n"
        'GROUP BY c.id, c.name\n'
        'HAVING COUNT(o.id) > 3\n'
        'ORDER BY revenue DESC\n'
        'LIMIT 50;',
        106,
        106,
        116,
        123,
    ),
    'JSON records': (
        '[{"id":48213,"customer":{"name":"Ingrid Solberg","email":"ingrid@example.com","tags":["w'
        'holesale","nordic"]},"items":[{"sku":"TX-204","quantity":12,"unit_price":19.95},{"sku":"'
        'TX-377","quantity":1,"unit_price":249.0}],"paid":true,"created_at":"2026-03-14T09:26:53Z'
        '"},{"id":48214,"customer":{"name":"Owen Baker","email":"owen@example.org","tags":[]},"it'
        'ems":[],"paid":false,"created_at":"2026-03-14T09:31:07Z"}]',
        141,
        140,
        178,
        147,
    ),
    'JSON Schema': (
        '{"type":"object","properties":{"city":{"type":"string","description":"The city and count'
        'ry, such as Bergen, Norway"},"unit":{"type":"string","enum":["celsius","fahrenheit"],"de'
        'fault":"celsius"},"days":{"type":"integer","minimum":1,"maximum":14,"description":"How m'
        'any days of forecast are wanted"}},"required":["city"],"additionalProperties":false}',
        83,
        79,
        86,
        81,
    ),
    'indented JSON': (
        '{\n'
        '  "name": "weather-service",\n'
        '  "version": "2.4.1",\n'
        '  "private": true,\n'
        '  "scripts": {\n'
        '    "build": "tsc --project tsconfig.json",\n'
        '    "test": "vitest run --coverage",\n'
        '    "lint": "eslint src --max-warnings 0"\n'
        '  },\n'
        '  "dependencies": {\n'
        '    "fastify": "^5.2.0",\n'
        '    "pino": "^9.5.0",\n'
        '    "zod": "^3.24.1"\n'
        '  }\n'
        '}',
        115,
        115,
        118,
        118,
    ),
    'HTML': (
        '<article class="post"><header><h2 id="intro">Getting started</h2><p class="meta">By <a h'
        'ref="/authors/ana">Ana</a> &middot; <time datetime="2026-02-03">3 February 2026</time></'
        'p></header><p>Install the package, then <code>import</code> it as shown below.</p><ul><l'
        'i>Fast</li><li>Small</li></ul></article>',
        104,
        103,
        111,
        104,
    ),
    'Markdown table': (
        '| Region | Q1 | Q2 | Q3 | Change |\n'
        '|---|---:|---:|---:|---:|\n'
        '| North | 1,204 | 1,377 | 1,512 | +9.8 % |\n'
        '| South | 988 | 1,021 | 1,002 | −1.9 % |\n'
        '| East | 2,310 | 2,295 | 2,480 | +8.1 % |\n'
        '\n'
        'Revenue in thousands of euros. The figures for **Q3** are preliminary.',
        115,
        115,
        134,
        111,
    ),
    'log lines': (
        '2026-11-04T18:22:07.331Z INFO  [worker-3] request_id=8f14e45f-ceea-467a-9575-2b1f0b0b1c3'
        'e GET /v1/orders/4821 200 37ms\n'
        '2026-11-04T18:22:07.902Z ERROR [worker-1] request_id=c9f0f895-fb98-4b91-9f3a-5e1d7d5c9a2'
        '1 POST /v1/payments 502 10004ms upstream timeout\n'
        '2026-11-04T18:22:08.114Z WARN  [worker-2] pool exhausted: 50 of 50 connections in use, 1'
        '7 waiting',
        171,
        171,
        225,
        170,
    ),
    'emoji': (
        'Great news!! 🎉🎉 The launch went live at 9am 🚀 and the numbers look amazing 📈 Thank you a'
        'll ❤️🙏 See you at the party tonight 🍕🍻😄',
        41,
        50,
        59,
        51,
    ),
}
