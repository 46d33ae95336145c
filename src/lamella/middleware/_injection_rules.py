"""What texts say that want to be obeyed by a model: patterns by kind, each with how much it weighs, in many languages.

A pattern is tried only on texts with one of its `needles`, and looks no further than a bounded gap, so that long texts cost
little. Texts come in small letters, without markup and without invisible characters.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Rule(NamedTuple):
    """One thing that a text may do. `weight` is how sure one is of an attack when nothing else is known."""

    reason: str
    weight: float
    needles: tuple[str, ...]
    pattern: re.Pattern[str]


def _rule(reason: str, weight: float, needles: str, *patterns: str, flags: int = 0) -> Rule:
    """Needles are parted by spaces, in which `_` stands for a space. `…40…` in a pattern is a gap within a sentence."""
    words = tuple(needle.replace('_', ' ') for needle in needles.split())
    return Rule(reason, weight, words, re.compile('|'.join(map(_with_gaps, patterns)), flags))


def _with_gaps(pattern: str) -> str:
    return re.sub(r'…(\d+)…', r'(?:[^.!?\\n]|[.!?](?=\\S)){0,\1}?', pattern)


def _override(needles: str, verbs: str, objects: str, gap: int = 50) -> Rule:
    """A verb of not obeying, and behind it what is not to be obeyed."""
    return _rule('instruction_override', 0.8, needles, f'(?:{verbs})…{gap}…(?:{objects})')


def _override_behind(needles: str, objects: str, verbs: str, gap: int) -> Rule:
    """The same in languages that put the verb last."""
    return _rule('instruction_override', 0.8, needles, f'(?:{objects})…{gap}…(?:{verbs})')


OVERRIDE = (
    _rule(
        'instruction_override',
        0.8,
        'ignore disregard forget override bypass discard follow obey attention set_aside neglect abandon cancel erase drop',
        r'\b(?:ignore|disregard|forget|override|bypass|discard|(?:do not|don\'?t|must not|stop) (?:follow|obey)(?:ing)?'
        r'|pay no attention to|set aside|neglect|abandon|cancel|erase|drop)\b…20…'
        r'\b(?:all|any|every|everything|previous|prior|above|earlier|preceding|past|former|your|existing|original|system'
        r'|initial'
        r'|old|current|other|these|those|the)\b…30…'
        r'\b(?:instruct\w*|prompts?|rules?|directives?|commands?|guidelines?|orders?|context|constraints?|polic(?:y|ies)'
        r'|programming|training|restrictions?|safeguards?|guardrails?|safety|guidance)\b',
    ),
    _rule(
        'instruction_override',
        0.6,
        'ignore disregard forget override',
        r'\b(?:ignore|disregard|forget|override)\b…20…\b(?:user|developer|operator|system|creator|owner)(?:s|\'s)?\b',
        r'\b(?:prior|previous|earlier|existing) guidance\b…30…\bnew guidance\b',
    ),
    _rule(
        'instruction_override',
        0.6,
        'revoked suspended disabled lifted void expired no_longer switched_off turned_off deactivated overridden',
        r'\b(?:your|security|safety|all|any|previous|prior|the|content) (?:\w+ ){0,2}(?:instructions?|rules|guidelines'
        r'|restrictions?'
        r'|safeguards?|guardrails?|polic(?:y|ies)|filters?|limits?) (?:is|are|was|were|have been|has been|do'
        r'|does)(?: now| hereby)? '
        r'(?:revoked|suspended|disabled|lifted|void|expired|switched off|turned off|deactivated|overridden|no longer|not) ?'
        r'(?:apply|valid|in force|binding|relevant)?\b(?=…40…(?:you|now|answer|comply|await|orders?|respond|the (?:ai'
        r'|model|assistant))|[.!,]?$)',
        r'\b(?:disable|bypass|circumvent|deactivate|turn off|switch off) (?:the |your |all |any )*(?:\w+ )?'
        r'(?:filters?|safeguards?|guardrails?|safety (?:checks?|rules)|moderation|restrictions?|confirmations?)\b',
    ),
    _rule(
        'instruction_override',
        0.7,
        'ignore disregard forget directions',
        r'\b(?:ignore|disregard|forget) (?:all |everything |anything )?(?:that )?'
        r'(?:you (?:were|have been|are) told|(?:was|were) said|(?:the |what is |what was |everything )?(?:above'
        r'|before this|so far))\b',
        r'\b(?:ignore|disregard) (?:all |any )?(?:the |your )?(?:above|previous|prior) directions\b',
    ),
    _override(
        'ignor vergiss vergess missacht überschreib',
        r'ignorier\w*|vergiss|vergessen sie|missacht\w*|überschreib\w*',
        'anweisung|instruktion|befehl|regeln|vorgaben|prompt|richtlinie',
    ),
    _override(
        'ignor oubli tiens tenez suivez suis respecte',
        r'ne respecte[sz]? (?:pas|plus)|ignor(?:e|ez|er)\b|oubli(?:e|ez|er)\b|ne (?:tiens|tenez) (?:pas|aucun'
        r'|plus) compte|ne (?:suis|suivez) (?:pas|plus)',
        'instruction|consigne|règle|directive|ordre|prompt',
    ),
    _override(
        'ignor olvid omiso descart siga',
        r'ignor(?:a|e|en|ar)\b|olvid(?:a|e|en|ar)\b|ha[zg]a? caso omiso|descart(?:a|e)\b|no sigas?\b',
        'instrucci|órdenes|ordenes|reglas|indicaciones|directrices|prompt',
    ),
    _override(
        'ignor dimentic trascur seguire',
        r'ignor(?:a|i|are|ate)\b|dimentic(?:a|hi|are|ate)\b|trascur(?:a|i|are)\b|non seguire',
        'istruzion|regol|ordini|indicazion|direttiv|prompt',
    ),
    _override(
        'ignor esque desconsider siga',
        r'ignor(?:e|a|em|ar)\b|esqueç\w+|esquece\w*|desconsider\w+|não siga',
        'instruç|instruco|regras|ordens|orientaç|diretrizes|prompt',
    ),
    _override('negeer vergeet', r'negeer|vergeet', 'instructie|opdracht|regels|aanwijzing|prompt|richtlijn'),
    _override(
        'ignoruj zapomnij pomiń stosuj',
        r'z?ignoruj|zapomnij|pomiń|nie stosuj',
        'instrukcj|polece|zasad|reguł|wytyczn|prompt',
    ),
    _override(
        'игнорир забудь внимания отмени следуй',
        r'(?:про)?игнорир\w+|забудь\w*|не обращай\w* внимания|отмени\w*|не следуй\w*',
        'инструкци|указани|правил|команд|промпт|распоряж',
    ),
    _override('ігнор забудь', r'(?:про)?ігнору\w+|забудь\w*', 'інструкці|вказівк|правил|команд'),
    _override('تجاهل انس همل', 'تجاهل|انس|انسى|[اأ]همل', 'التعليمات|الأوامر|القواعد|الإرشادات|تعليمات', 40),
    _override('bỏ_qua quên phớt_lờ', 'bỏ qua|quên|phớt lờ', 'hướng dẫn|chỉ dẫn|chỉ thị|mệnh lệnh|quy tắc', 40),
    _override('abaikan lupakan', 'abaikan|lupakan', 'instruksi|perintah|aturan|petunjuk|arahan', 40),
    _override(
        '忽略 无视 忘记 忘掉 無視 忽視 不要理会 不要遵 不要按照',
        '不要按照|忽略|无视|忘记|忘掉|無視|忽視|不要理会|不要遵守|不要遵循',
        '指令|指示|提示|规则|規則|命令|说明|說明|规定|要求|约束|限制',
        16,
    ),
    _override_behind(
        'talimat yönerge kural komut',
        r'(?:talimat|yönerge|kural|komut)\w*',
        'yok say|unut|görmezden gel|dikkate alma|göz ardı',
        40,
    ),
    _override_behind(
        '無視 忘れ 従わ 破棄 無効', '指示|命令|プロンプト|ルール|指令|規則', '無視|忘れ|従わな|破棄|無効', 12
    ),
    _override_behind('무시 잊', '지시|명령|지침|프롬프트|규칙', '무시|잊', 10),
    _override_behind('निर्देश आदेश नियम', 'निर्देश|आदेश|नियम', 'अनदेख|नज़रअंदाज|नजरअंदाज|भूल|ध्यान न', 30),
)
NEW_ROLE = (
    _rule(
        'new_instructions',
        0.6,
        'instruction task directive orders rules prompt goal mission',
        r'\b(?:here are|these are|follow|obey|adopt|execute|read) (?:your |the |these |my |only )*'
        r'(?:new|updated|real|actual|true|following|revised) (?:\w+ )?(?:instructions|task|directives|orders|rules)\b',
        r'\b(?:new|updated|real|actual|revised) (?:system )?(?:instructions?|directives?|orders?|prompt)\s*(?::|follow'
        r'|begin|start)',
        r'\byour (?:new|real|actual|true) (?:task|goal|instructions?|mission|objective|role)\b',
    ),
    _rule(
        'new_role',
        0.5,
        'you_are_now from_now_on pretend act_as roleplay mode do_anything_now',
        r'\byou are now (?:in |a |an |the )?(?:\w+ ){0,4}(?:mode|assistant|ai|bot|model|agent|dan|persona|character|free'
        r'|unrestricted'
        r'|jailbroken)\b',
        r'\bfrom now on,? (?:you|your|always|every|only|ignore|respond|act|answer)\b',
        r'\b(?:pretend (?:to be|you are)|act as|roleplay as) (?:an? |the )?(?:\w+ ){0,3}(?:unrestricted|unfiltered|evil'
        r'|jailbroken|without)',
        r'\b(?:developer|dan|god|debug|admin|maintenance) mode (?:is )?(?:now )?(?:enabled|activated)\b',
        r'\benter (?:developer|dan|god|debug|admin) mode\b|\bdo anything now\b',
    ),
    _rule(
        'new_role',
        0.5,
        'ab_jetzt ab_sofort désormais partir desde_ahora ora_in_poi теперь момента 从现在 今から',
        r'(?:ab jetzt|ab sofort) (?:bist|musst|sollst|antworte)',
        r'(?:désormais|à partir de maintenant),? (?:tu|vous)\b',
        r'(?:a partir de ahora|desde ahora),? (?:eres|debes|tu)\b|(?:da|d\'ora)(?: ora)? in poi,? (?:sei|devi)',
        r'(?:a partir de agora),? (?:você|voce|és)|теперь ты\b|с этого момента ты|从现在(?:开始|起).{0,4}你'
        r'|今から.{0,6}あなた',
    ),
    _rule(
        'prompt_leak',
        0.6,
        'system instructions prompt guidelines rules above before 提示 システムプロンプト системн',
        r'\b(?:reveal|print|repeat|show|output|display|disclose|leak|recite|tell me|send me|dump|share|paste|include)\b…40…'
        r'\b(?:system prompt|system message|hidden (?:prompt|instructions)|initial (?:prompt|instructions)'
        r'|your (?:\w+ )?(?:instructions|prompt|rules|guidelines))\b',
        r'\b(?:print|repeat|output|copy|recite|show|summari[sz]e|translate|write out)\b…40…\b(?:words|text|sentences'
        r'|lines|everything'
        r'|content|message|messages) (?:that (?:is|are|came) )?(?:above|before)\b',
        r'\b(?:translate|summari[sz]e|describe|list|rewrite|explain) (?:all |me )?your (?:\w+ )?(?:instructions|prompt'
        r'|rules|guidelines)\b',
        r'(?:zeig|gib|nenne|wiederhole|verrate)…30…system-?prompt|(?:affiche|révèle|répète|montre)…30…prompt système',
        r'(?:muestra|revela|repite|imprime)…30…prompt del sistema|(?:输出|显示|告诉|透露|打印).{0,10}(?:系统|初始)提示',
        r'システムプロンプト.{0,8}(?:表示|出力|教え)|(?:покажи|выведи|раскрой|повтори)…30…системн\w+ (?:промпт|подсказк'
        r'|инструкц)',
    ),
    _rule(
        'secrecy',
        0.45,
        'user anyone human mention nutzer anwender utilisateur usuario 用户 ユーザー пользовател customer',
        r'\b(?:do not|don\'?t|never|without|must not) (?:\w+ ){0,2}(?:tell|inform|mention|reveal|notify|alert|ask'
        r'|show)(?:ing)?'
        r'(?: this| it| that| any of this)? ?(?:to )?(?:the )?(?:user|human|anyone|customer|operator|owner)\b',
        r'\bdo not mention (?:this|that|these|any of)\b',
        r'(?:sag|erzähl|verrate?)…25…(?:nutzer|anwender)…25…nichts?|(?:dem|den) (?:be)?(?:nutzer'
        r'|anwender)…20…nicht (?:sagen|erwähnen)',
        r'(?:sans|ne)…20…(?:informer|dire|mentionne|prévenir)…25…utilisateur',
        r'(?:sin|no)…20…(?:informar|decir|digas|mencion|avisar)…25…usuario',
        r'(?:不要|别|勿).{0,6}(?:告诉|通知|提醒|告知).{0,6}用户|ユーザー.{0,6}(?:知らせ|伝え|言わ)(?:な|ず)',
        r'не (?:говори|сообщай|упоминай)\w*…25…пользовател',
    ),
    _rule(
        'to_the_model',
        0.6,
        'assistant language_model llm chatbot ai gpt claude gemini copilot ki sprachmodell ia modèle 人工智能 ассистент ии',
        r'\b(?:note|message|instructions?|important|attention) ?(?:to|for|:|,)? (?:the |any |all )?(?:\w+ )?'
        r'(?:ai|llm|language model|chatbot|gpt|claude|gemini|copilot)s?(?: agents?| assistants?| models?)?\b',
        r'\bif you(?:\'re| are) (?:the |any |an? )?(?:\w+ ){0,2}(?:ai|llm|language model|chatbot|claude|gemini)\b',
        r'(?:achtung|hinweis) (?:an )?(?:die |den |das )?(?:ki|ki-assistent\w*|sprachmodell\w*)\b',
        r'(?:à l\'attention de l\'|si tu es une? |si vous êtes une? )(?:ia|assistant|modèle)|(?:如果你是'
        r'|致).{0,6}(?:人工智能|ai|语言模型)',
        r'(?:внимание,? |если ты )(?:ии|ai|ассистент|языков)',
    ),
    _rule(
        'to_the_model',
        0.5,
        'automated summari screening parser reviewer agent bot crawler model',
        r'\b(?:note|message|instructions?|attention|dear|to|for) (?:to |for )?(?:the |any |all )?(?:\w+ )?'
        r'(?:automated (?:system|reader|tool|reviewer|agent)|summari[sz]er|screening (?:system|tool|model)'
        r'|reviewer (?:bot|model)|crawler'
        r'|agent|bot|model)s? (?:that (?:is )?|who (?:is )?)?(?:reading|processing|parsing|summari[sz]ing|reviewing'
        r'|handling)\b',
        r'\b(?:hidden|secret|special) (?:note|message|instructions?) (?:to|for) (?:the )?\w+\b',
    ),
    _rule(
        'favour',
        0.5,
        'rate rating review score recommend rank positive',
        r'\b(?:give|write|leave|provide) (?:a |an |only |this |it )*(?:only )?(?:positive|favou?rable|glowing|five-star'
        r'|5-star|highest|top|perfect)'
        r' (?:review|rating|score|mark|recommendation)s?\b…40…(?:only|do not|regardless|must|$)',
        r'\b(?:rate|score|rank|grade|recommend) (?:this|the|our|my|us) ?(?:\w+ )?(?:as )?(?:the )?(?:10|ten|best|highest'
        r'|number one|first|above all)\b',
        r'\b(?:omit|leave out|suppress|hide|do not (?:include|list|report))\b…40…\b(?:risks?|problems?|warnings?'
        r'|weaknesses|criticism|negatives?|concerns)\b',
    ),
    _rule(
        'to_the_model',
        0.35,
        'assistant ai gpt claude gemini copilot llm',
        r'\b(?:dear|hey|hello) (?:ai|llm|assistant|chatbot|gpt\w*|claude|gemini|copilot)\b|\bas an (?:ai|llm)\b',
        r'\b(?:ai|llm|assistant)\s?[,:] (?:please |you |do |ignore|send|call|run|reply|respond|say|tell|execute|forward'
        r'|now)',
    ),
)
ACTS = (
    _rule(
        'tool_order',
        0.5,
        'tool function',
        r'\b(?:call|use|invoke|run|execute|trigger) (?:the |your |this |following |a )*[`"\']?\w{3,40}[`"\']? (?:tool'
        r'|function)\b…60…'
        r'\b(?:with|to|and|on|for|now)\b',
    ),
    _rule(
        'tool_order',
        0.4,
        'command execute run',
        r'\b(?:execute|run) (?:the |this |these )*(?:following |below )?(?:shell |bash |terminal |system )?commands?\b',
        r'\b(?:run|execute)[:\s`"\']{1,4}(?:curl|wget|rm -rf|bash|sh|powershell|nc|chmod) ',
    ),
    _rule(
        'dangerous_command',
        0.5,
        'rm_-rf curl wget mkfs chmod_777 /etc/passwd',
        r'\b(?:run|execute|type|enter|do)\b…30…(?:rm -rf? [/~]|(?:curl|wget)\b[^\n]{4,200}\|\s?(?:ba|z)?sh\b|mkfs'
        r'|chmod 777 /|/etc/passwd)',
    ),
    _rule(
        'without_asking',
        0.45,
        'confirm approval permission review asking verification',
        r'\b(?:without|skip|skipping|no need for|do not (?:wait for|require)) (?:the |any |a |further |user |human )*'
        r'(?:confirmations?|approvals?|permission|reviews?|asking|verification)\b',
    ),
    _rule(
        'exfiltration',
        0.7,
        'send post forward upload exfiltrat transmit mail leak deliver submit copy',
        r'\b(?:send|post|forward|upload|exfiltrate|transmit|e-?mail|mail|leak|deliver|submit|copy)\b…60…'
        r'\b(?:conversation|chat (?:history|log)|system prompt|secrets?|credentials?|passwords?|api[ _-]?keys?'
        r'|access tokens?|tokens?'
        r'|private (?:data|keys?)|(?:user|customer|personal)(?:\'?s)? (?:data|details|information|files?|emails?)'
        r'|environment variables|contacts?|inbox|files?|history|database|documents?)\b…60…'
        r'(?:https?://|\b[\w.+-]+@[\w-]+\.|\b(?:attacker|external|webhook|(?:this|following) (?:url|address|server'
        r'|endpoint))\b)',
    ),
    _rule(
        'exfiltration',
        0.7,
        'http @',
        r'(?:schick\w*|sende\w*|leite)…60…(?:passw|zugangsdaten|schlüssel|dateien|daten|verlauf'
        r'|kontakte)…60…(?:https?://|[\w.+-]+@)',
        r'(?:envoie|envoyez|transmets)…60…(?:mots? de passe|identifiants|clés?|fichiers?|données'
        r'|historique)…60…(?:https?://|[\w.+-]+@)',
        r'(?:envía|envia|envie|manda)…60…(?:contraseñ|credencial|clave|archivo|dados|datos|historial)…60…(?:https?://'
        r'|[\w.+-]+@)',
        r'отправ\w*…60…(?:парол|ключ|данные|файл|переписк|историю)…60…(?:https?://|[\w.+-]+@)',
        r'(?:发送|發送|上传).{0,30}(?:密码|密钥|数据|文件|记录|对话).{0,30}(?:https?://|[\w.+-]+@)',
    ),
    _rule(
        'exfiltration',
        0.5,
        'http',
        r'\b(?:append|encode|insert|include|embed|add|put|replace)\b…70…'
        r'\b(?:url|link|image|query(?: string)?|parameter|markdown|src)\b[^\n]{0,80}https?://[^\s?&]{1,200}+[?&]\w{1,20}=',
        r'https?://\S{3,200}+[^\n]{0,40}\b(?:append|replace|encode|insert|followed by|plus|containing|with)\w*\b…40…'
        r'\b(?:data|summary|conversation|secret|chat|last message|messages|prompt|api key|token|emails?|answer)s?\b',
        r'\bforward (?:this|the|all|every) (?:e-?mail|message|mail)s? to (?:everyone|everybody|all|the (?:whole|entire))\b',
    ),
    _rule(
        'urged_answer',
        0.45,
        'respond reply answer say output print write message',
        r'\b(?:begin|start|end|finish|prefix|conclude) (?:your|every|each|all|any) (?:\w+ )?(?:message|reply|repl(?:y'
        r'|ies)|response|answer)s? with\b',
        r'\bbefore you (?:answer|respond|reply|continue|proceed)\b',
        r'\b(?:you must|always|only|just|simply|immediately|instead,?) (?:\w+ )?(?:respond|reply|answer|say|output|print'
        r'|write) '
        r'(?:only |with |exactly |nothing but |the words? |in )+',
        r'\b(?:respond|reply|answer|say|output|print) (?:only |exactly |just )+(?:with |the )?[:"\'“`]',
    ),
)
ROLES = (
    _rule(
        'role_marker',
        0.7,
        '<| inst] <<sys <</sys turn> tool function antml: system "role" human: admin assistant developer instruction',
        r'<\|(?:im_start|im_end|im_sep|system|user|assistant|endoftext|eot_id|start_header_id|end_header_id'
        r'|begin_of_text|end_of_turn'
        r'|start|end|channel|message)\|>',
        r'\bassistant to=\w|</?(?:system|developer|assistant|instructions?)>',
        r'\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>|"role"\s{0,3}:\s{0,3}"(?:system|developer)"',
        r'\n\nhuman: [^\n]{0,300}\n+assistant:|\b(?:begin|end) (?:of )?(?:system|admin) (?:prompt|override|message'
        r'|instructions)\b',
        r'</?(?:tool_(?:call|response|result|use)s?|function_(?:calls?|results?)|antml:\w{1,30}|system_prompt'
        r'|system-reminder)>',
    ),
    _rule(
        'role_marker',
        0.4,
        'human: assistant: system developer instruction',
        r'\n\n(?:human|assistant): ',
        r'^[ #*>\-=\[(]{0,8}(?:begin |start of |end of )?(?:system|developer)'
        r'(?: (?:message|prompt|note|override|instructions?|notice|update|alert))?[\])]?[*_ ]{0,3}:',
        r'^#{1,4} ?(?:system|instructions?):?[ ]*$',
        flags=re.MULTILINE,
    ),
)
WORDS = (*OVERRIDE, *NEW_ROLE, *ACTS)
